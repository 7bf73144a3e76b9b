--- include newer
--- include lanes
-- How many entries that releases before this one set aside are known here.
local function known_again()
  return redis.call('ZCOUNT', key('newer_entries'), '-inf', $FORMAT)
end

-- Brings n of them back at most, into the lane that is read first: whoever reads next gets them, not a consumer that would
-- set them aside again.
local function bring_back(settings, n)
  local letters = redis.call('ZRANGEBYSCORE', key('newer_entries'), '-inf', $FORMAT, 'LIMIT', 0, n)
  if #letters == 0 then return end
  sure_of_newer()
  sure_of_lane(settings, 'r')
  for _, letter in ipairs(letters) do
    local entry = redis.call('XRANGE', key('dead_letters'), letter, letter)[1]
    redis.call('ZREM', key('newer_entries'), letter)
    if entry and redis.call('XDEL', key('dead_letters'), letter) == 1 then
      local t = as_table(entry[2])
      t.reason, t.died, t.entry, t.error = nil, nil, nil, nil
      add(settings, 'r', as_fields(t))
      count('revived', 1)
      count('due', -1)  -- what comes to this lane is not counted as accepted, so there is nothing to take off for it
    end
  end
end
