--- include bury
--- include due
--- include lanes
-- Sends an entry back: a new id in the lane that is read first, or put off by `delay`; into the dead letters once it
-- failed as often as the delivery limit. `failed` is 1 for a crash or a failure, 0 for an entry that was only handed back;
-- `seen` is 1 where it had been handed to the application. Returns 'requeued' or 'dead', and the settings.
local function send_back(settings, lane, id, fields, now, options)
  local t = as_table(fields)
  t.first = t.first or ms(id_time(id))
  if lane ~= '0' and lane ~= 'r' then t.priority = lane end
  if options.seen > 0 then t.handed_out = tostring((tonumber(t.handed_out) or 0) + options.seen) end
  if options.failed > 0 then t.failed = tostring((tonumber(t.failed) or 0) + options.failed) end
  if options.text and options.text ~= '' then t.error = options.text end
  local limit = settings and settings.delivery_limit or options.limit
  if limit > 0 and options.failed > 0 and tonumber(t.failed) >= limit then
    bury(settings, lane, id, t, 'delivery_limit', options.text, now)
    remove(lane, id)
    return 'dead', settings
  end
  if options.delay and options.delay > 0 then
    local first = t.first
    t.first = nil
    put_off('r', as_fields(t), first, now + options.delay)
  else
    redis.call('XADD', lane_key('r'), '*', unpack(as_fields(t)))
  end
  remove(lane, id)
  count('requeued', 1)
  return 'requeued', settings
end
