--- include group
--- include bury
--- include legacy
--- include list
--- include newer
--- include known_again
--- include settings
-- Reads up to n events from the lanes in order, sorting out what is not for a handler: responses between clients of
-- elk-mq 0.1, entries whose time to live is over. `gone`: the entries leave the queue with the reading.
-- Returns {lane, entries} for each lane that has any, how many there are, and whether there may be more though it was not
-- full: it stopped at `most` entries looked at, or elk-mq 0.1's list had some that went to the lane read first. An entry is {id, fields}, as the server gives it.
local function read_lanes(settings, consumer, n, now, gone, most)
  if settings and settings.dead_letter_expired then sure_of_graves(settings) end
  if $FORMAT > 1 then bring_back(settings, n) end
  local groups, total, seen, queue_ttl, late, aside = {}, 0, 0, settings and settings.ttl, false, false
  for _, lane in ipairs(lanes_of(settings)) do
    local entries, before = {}, total
    while total < n and seen < most do
      local asked = n - total
      local read, batch = pcall(read_new, lane, consumer, asked, gone)
      if not read then
        -- What was read from the lanes before is pending for the consumer: it has to hear of it first.
        if total > 0 then break end
        error(batch, 0)
      end
      seen = seen + #batch
      for _, entry in ipairs(batch) do
        local fields = entry[2]
        local hand_out = #fields == 4 and fields[3] == 'v' and fields[4] == '$FORMAT' and not queue_ttl
        if not hand_out then
          local id, t = entry[1], as_table(fields)
          local deadline = deadline_of(t, id, settings)
          if is_response(t, lane) then
            keep_response(id, t.response)
          elseif is_newer(t) then
            sure_of_newer()
            remove(lane, id)
            set_aside(lane, id, t, now)
            aside = true
          elseif deadline and deadline <= now then
            remove(lane, id)
            expire(settings, lane, id, t, now)
          else
            hand_out = true
          end
        end
        if hand_out then
          total = total + 1
          entries[total - before] = entry
          if gone then redis.call('XDEL', lane_key(lane), entry[1]) end
        end
      end
      if #batch < asked then break end
    end
    if lane == '0' then
      local more, adopted = drop_list(settings)
      late = more or adopted
    end
    if total > before then groups[#groups + 1] = {lane, entries} end
    late = late or (total < n and seen >= most)
    if total >= n or seen >= most then break end
  end
  if aside then tell_newer() end
  return groups, total, total < n and late
end
