--- include clock
--- include fields
--- include settings
-- Keeps a completed event in the event log, and lets go of what is older or more than the queue's retention says.
local function retain(lane, id)
  local settings = read_settings()
  local rule = settings and (settings.retention_count or settings.retention_ms)
  local entry = redis.call('XRANGE', lane_key(lane), id, id)[1]
  if not rule or not entry then return end
  local t = as_table(entry[2])
  t.entry, t.first = id, t.first or ms(id_time(id))
  redis.call('XADD', key('event_log'), '*', unpack(as_fields(t)))
  if settings.retention_count then redis.call('XTRIM', key('event_log'), 'MAXLEN', '~', settings.retention_count) end
  if settings.retention_ms then
    for _, old in ipairs(redis.call('XRANGE', key('event_log'), '-', ms(server_time() - settings.retention_ms), 'COUNT', 100)) do
      redis.call('XDEL', key('event_log'), old[1])
    end
  end
end
