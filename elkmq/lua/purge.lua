-- Removes events that nobody was handed yet; in flight ones stay; responses are kept.
-- KEYS  1 main lane
-- ARGV  1 how many at most in this step  2 1 = delayed ones too
-- Returns {removed, 1 where there may be more}.
--- include keys
--- include settings
--- include group
--- include legacy
--- include fields
local limit, removed, seen, settings = tonumber(ARGV[1]), 0, 0, read_settings()
for _, lane in ipairs(lanes_of(settings)) do
  while seen < limit do
    local batch = read_new(lane, 'dropped', math.min(limit - seen, 1000), true)
    for _, entry in ipairs(batch) do
      local t = as_table(entry[2])
      if t.response and not t.event then
        keep_response(entry[1], response_timeout(t.response))
      else
        redis.call('XDEL', lane_key(lane), entry[1])
        removed = removed + 1
      end
    end
    seen = seen + #batch
    if #batch == 0 then break end
  end
end
if ARGV[2] == '1' and seen < limit then
  local waiting = redis.call('ZCARD', key('delayed'))
  redis.call('UNLINK', key('delayed'))
  count('due', waiting)
  count('discarded', waiting)
  removed = removed + waiting
end
drop_list(settings)
count('purged', removed)
return {removed, seen >= limit and 1 or 0}
