-- The heartbeat of all consumers that a process has at a server: renews their leases. The chores are tend.lua's.
-- KEYS  main lanes of the queues (on a Cluster: of one)
-- ARGV  for each queue: consumer, lease ms
-- Returns for each queue -1 where the consumer is not known any more: its lease is over; else the ms until the first lease
--   on the queue ends, 0 where one is over: tend.lua takes over from it.
-- Cost for one queue: TIME, ZRANGE, ZREM, ZADD. For each one more: the same without TIME.
--- include keys
--- include clock
--- include leases
local now, replies = server_time(), {}
for i, lane in ipairs(KEYS) do
  switch(lane)
  local consumer, ends = ARGV[2 * i - 1], now + tonumber(ARGV[2 * i])
  local first = redis.call('ZRANGE', key('consumers'), 0, 1, 'WITHSCORES')
  if #first > 0 and tonumber(first[2]) <= now then
    mend_leases(now)
    first = redis.call('ZRANGE', key('consumers'), 0, 1, 'WITHSCORES')
  end
  even_when_full()
  local renewed = redis.call('ZADD', key('consumers'), 'XX', 'CH', ms(ends), consumer)
  if renewed == 0 and not redis.call('ZSCORE', key('consumers'), consumer) then
    replies[i] = -1
  else
    local other = first[1] == consumer and first[4] or first[2]
    replies[i] = other and math.max(0, math.ceil(tonumber(other) - now)) or tonumber(ARGV[2 * i])
  end
end
return replies
