--- include bury
--- include due
--- include lanes
--- include legacy
-- Sends an entry back: a new id in the lane that is read first, or put off by `delay`; into the dead letters once it
-- failed more often than the delivery limit. `failed` is 1 for a crash or a failure, 0 for an entry that was only handed
-- back; `seen` is 1 where it had been handed to the application. Returns 'requeued' or 'dead', and the settings.
-- It is removed first, which a server with its memory full allows, and with that the rest.
local function send_back(settings, lane, id, fields, now, options)
  local t = as_table(fields)
  if is_response(t, lane) then
    keep_response(id, t.response)
    return 'requeued', settings
  end
  remove(lane, id)
  t.first = t.first or ms(id_time(id))
  if lane ~= '0' and lane ~= 'r' then t.priority = lane end
  if options.seen > 0 then t.handed_out = ms((tonumber(t.handed_out) or 0) + options.seen) end
  if options.failed > 0 then t.failed = ms((tonumber(t.failed) or 0) + options.failed) end
  if options.text and options.text ~= '' then t.error = options.text end
  local limit = settings and settings.delivery_limit or options.limit
  if limit > 0 and options.failed > 0 and tonumber(t.failed) > limit then
    bury(settings, lane, id, t, 'delivery_limit', options.text, now)
    return 'dead', settings
  end
  if options.delay and options.delay > 0 then
    local first = t.first
    t.first, t.due = nil, nil
    put_off('r', as_fields(t), first, now + options.delay)
  else
    add(settings, 'r', as_fields(t))
  end
  count('requeued', 1)
  return 'requeued', settings
end

-- What send_back() is going to write.
local function sure_of_return(settings, delay)
  sure_of_lanes(settings)
  sure_of_lane(settings, 'r')
  sure_of_graves(settings)
  if delay and delay > 0 then sure_of_delay() end
end
