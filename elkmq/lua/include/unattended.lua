--- include settings
--- include lanes
--- include bury
-- The ready entries at the head of a lane, `limit` at most.
local function head_of(lane, limit)
  local groups = redis.pcall('XINFO', 'GROUPS', lane_key(lane))
  if groups.err then return {} end
  local from = '-'
  for _, group in ipairs(groups) do
    for i = 1, #group, 2 do
      if group[i] == 'last-delivered-id' then
        local time, sequence = string.match(group[i + 1], '^(%d+)-(%d+)$')
        from = time .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
      end
    end
  end
  return redis.call('XRANGE', lane_key(lane), from, '+', 'COUNT', limit)
end

-- Sends what has expired at the head of the lanes on, in the queue that key() speaks of. Returns ms until to look again.
local function pass_expired(settings, now)
  local again = 1000
  for _, lane in ipairs(lanes_of(settings)) do
    for _, entry in ipairs(head_of(lane, 100)) do
      local t = as_table(entry[2])
      local ends = deadline_of(t, entry[1], settings)
      if not ends then break end
      if ends > now then
        again = math.min(again, ends - now)
        break
      end
      expire(settings, lane, entry[1], t, now)
      redis.call('XDEL', lane_key(lane), entry[1])
    end
  end
  return again
end
