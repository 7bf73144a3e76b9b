-- What a consumer was handed but never saw: pending for it, and not among those it knows.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 how many at most  then lane, id of those it knows, ...
-- Returns entries as take.lua. Errors: ELKMQ_CONSUMER_GONE.
--- include keys
--- include clock
--- include owner
--- include settings
--- include bury
local limit, known, entries = tonumber(ARGV[2]), {}, {}
require_registered(ARGV[1])
for i = 3, #ARGV, 2 do known[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end
for _, lane in ipairs(lanes_of(read_settings())) do
  local pending = redis.pcall('XPENDING', lane_key(lane), 'elkmq', '-', '+', limit + (#ARGV - 2) / 2, ARGV[1])
  if not pending.err then
    for _, item in ipairs(pending) do
      if not known[lane .. ' ' .. item[1]] and #entries < limit then
        local entry = redis.call('XRANGE', lane_key(lane), item[1], item[1])[1]
        local t = entry and as_table(entry[2])
        if t and t.event then
          entries[#entries + 1] = {lane, item[1], entry[2]}
        else
          redis.call('XACK', lane_key(lane), 'elkmq', item[1])
        end
      end
    end
  end
end
return entries
