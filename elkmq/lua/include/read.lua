--- include group
--- include bury
--- include legacy
--- include settings
-- Reads up to n events from the lanes in order, sorting out what is not for a handler: responses between clients of
-- elk-mq 0.1, entries whose time to live is over. `gone`: the entries leave the queue with the reading.
local function read_lanes(settings, consumer, n, now, gone)
  drop_list(settings)
  local entries = {}
  for _, lane in ipairs(lanes_of(settings)) do
    local rounds = 0
    while #entries < n and rounds < 20 do
      rounds = rounds + 1
      local batch = read_new(lane, consumer, n - #entries, gone)
      local asked = n - #entries
      for _, entry in ipairs(batch) do
        local id, fields = entry[1], entry[2]
        if not fields then
          redis.call('XACK', lane_key(lane), 'elkmq', id)
        elseif #fields == 4 and fields[3] == 'v' and not (settings and settings.ttl) then
          entries[#entries + 1] = {lane, id, fields}
          if gone then redis.call('XDEL', lane_key(lane), id) end
        else
          local t = as_table(fields)
          local deadline = deadline_of(t, id, settings)
          if t.response and not t.event then
            keep_response(id, response_timeout(t.response))
          elseif deadline and deadline <= now then
            expire(settings, lane, id, t, now)
            remove(lane, id)
          else
            entries[#entries + 1] = {lane, id, fields}
            if gone then redis.call('XDEL', lane_key(lane), id) end
          end
        end
      end
      if #batch < asked then break end
    end
  end
  return entries
end
