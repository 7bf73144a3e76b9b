--- include clock
--- include fields
--- include settings
-- Keeps completed events, {id, fields} each, in the event log, and lets go of what is older or more than the queue's
-- retention says.
local function retain(settings, entries)
  local rule = settings and (settings.retention_count or settings.retention_ms)
  if not rule then return end
  for _, entry in ipairs(entries) do
    local t = as_table(entry[2])
    t.entry, t.first = entry[1], t.first or ms(id_time(entry[1]))
    redis.call('XADD', key('event_log'), '*', unpack(as_fields(t)))
  end
  if settings.retention_count then redis.call('XTRIM', key('event_log'), 'MAXLEN', '~', settings.retention_count) end
  if settings.retention_ms then
    local before = ms(server_time() - settings.retention_ms)
    for _, old in ipairs(redis.call('XRANGE', key('event_log'), '-', before, 'COUNT', 100 + #entries)) do
      redis.call('XDEL', key('event_log'), old[1])
    end
  end
end
