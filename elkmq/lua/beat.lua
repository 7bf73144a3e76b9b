-- The heartbeat of all consumers that a process has at a server: renews their leases. The chores are tend.lua's.
-- KEYS  main lanes of the queues (on a Cluster: of one)
-- ARGV  for each queue: consumer, lease ms, 1 = look at the others' leases
-- Returns for each queue -1 where the consumer is not known any more: its lease is over; else the ms until the first of the
--   others' leases ends, 0 where one is over: tend.lua takes over from it, less than its own lease; its own lease where there is
--   none, or it did not look.
-- Cost for one queue: TIME, ZRANGE, ZADD. For each one more: the same without TIME; where it does not look, without ZRANGE. Where
-- the memory is full ZREM and ZADD more.
--- include keys
--- include clock
--- include leases
local now, replies = server_time(), {}

local function renew(consumer, ends)
  local renewed = redis.pcall('ZADD', key('consumers'), 'XX', 'CH', ends, consumer)
  if type(renewed) == 'number' then return renewed end
  even_when_full()
  return redis.call('ZADD', key('consumers'), 'XX', 'CH', ends, consumer)
end

for i, lane in ipairs(KEYS) do
  switch(lane)
  local consumer, lease = ARGV[3 * i - 2], tonumber(ARGV[3 * i - 1])
  local first = ARGV[3 * i] == '1' and redis.call('ZRANGE', key('consumers'), 0, 1, 'WITHSCORES') or {}
  if #first > 0 and tonumber(first[2]) <= now then
    mend_leases(now)
    first = redis.call('ZRANGE', key('consumers'), 0, 1, 'WITHSCORES')
  end
  if renew(consumer, ms(now + lease)) == 0 and not redis.call('ZSCORE', key('consumers'), consumer) then
    replies[i] = -1
  else
    local other = first[2]
    if first[1] == consumer then other = first[4] end
    replies[i] = other and math.max(0, math.min(math.ceil(tonumber(other) - now), lease - 1)) or lease
  end
end
return replies
