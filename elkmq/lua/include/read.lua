--- include group
--- include bury
--- include legacy
--- include settings
-- Reads up to n events from the lanes in order, sorting out what is not for a handler: responses between clients of
-- elk-mq 0.1, entries whose time to live is over. `gone`: the entries leave the queue with the reading.
-- Returns the entries, and whether it stopped at `most` entries looked at, so that there may be more.
local function read_lanes(settings, consumer, n, now, gone, most)
  if settings and settings.dead_letter_expired then sure_of_graves(settings) end
  drop_list(settings)
  local entries, seen = {}, 0
  for _, lane in ipairs(lanes_of(settings)) do
    while #entries < n do
      if seen >= most then return entries, true end
      local asked = n - #entries
      local read, batch = pcall(read_new, lane, consumer, asked, gone)
      if not read then
        -- What was read from the lanes before is pending for the consumer: it has to hear of it first.
        if #entries > 0 then return entries, false end
        error(batch, 0)
      end
      seen = seen + #batch
      for _, entry in ipairs(batch) do
        local id, fields = entry[1], entry[2]
        if #fields == 4 and fields[3] == 'v' and not (settings and settings.ttl) then
          entries[#entries + 1] = {lane, id, fields}
          if gone then redis.call('XDEL', lane_key(lane), id) end
        else
          local t = as_table(fields)
          local deadline = deadline_of(t, id, settings)
          if is_response(t) then
            keep_response(id, t.response)
          elseif deadline and deadline <= now then
            remove(lane, id)
            expire(settings, lane, id, t, now)
          else
            entries[#entries + 1] = {lane, id, fields}
            if gone then redis.call('XDEL', lane_key(lane), id) end
          end
        end
      end
      if #batch < asked then break end
    end
  end
  return entries, false
end
