-- Removes events that nobody was handed yet; in flight ones stay; responses are kept.
-- KEYS  1 main lane
-- ARGV  1 how many at most in this step  2 1 = delayed ones too
-- Returns {removed, 1 where there may be more}.
--- include keys
--- include settings
--- include group
--- include legacy
--- include list
--- include fields
local limit, removed, seen, settings = tonumber(ARGV[1]), 0, 0, read_settings()
sure_of_lanes(settings)
sure('zset', key('delayed'))
local more = drop_list(settings)
for _, lane in ipairs(lanes_of(settings)) do
  while seen < limit do
    local batch, ids = read_new(lane, 'dropped', math.min(limit - seen, 1000), true), {}
    for _, entry in ipairs(batch) do
      local t = as_table(entry[2])
      if is_response(t, lane) then
        keep_response(entry[1], t.response)
      else
        ids[#ids + 1] = entry[1]
      end
    end
    delete_all(lane, ids)
    removed = removed + #ids
    seen = seen + #batch
    if #batch == 0 then break end
  end
end
more = more or seen >= limit
if not more and ARGV[2] == '1' then
  removed = removed + redis.call('ZCARD', key('delayed'))
  redis.call('UNLINK', key('delayed'))
end
if not more then redis.call('UNLINK', key('message_queue')) end
count('purged', removed)
return {removed, more and 1 or 0}
