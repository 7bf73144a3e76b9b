--- include newer
--- include lanes
-- Brings back what releases before this one set aside; returns the settings.
local function bring_back(settings)
  local letters = redis.call('ZRANGEBYSCORE', key('newer_entries'), '-inf', $FORMAT, 'LIMIT', 0, 100)
  if #letters == 0 then return settings end
  sure_of_newer()
  for _, letter in ipairs(letters) do
    local entry = redis.call('XRANGE', key('dead_letters'), letter, letter)[1]
    local t = entry and as_table(entry[2])
    if t then sure_of_lane(settings, t.priority or '0') end
    redis.call('ZREM', key('newer_entries'), letter)
    if t and redis.call('XDEL', key('dead_letters'), letter) == 1 then
      local lane, _ = t.priority or '0', nil
      t.reason, t.died, t.entry, t.error, t.priority = nil, nil, nil, nil, nil
      _, settings = add(settings, lane, as_fields(t))
      count('revived', 1)
    end
  end
  return settings
end
