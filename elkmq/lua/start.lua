-- Notes that the handler of a delivery is about to start. Consumers say so only of entries that failed before: when a
-- consumer dies with many deliveries, only those it had started can have killed it, and only those count as failed again.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 lane  3 id
-- Returns 1, or 0 where the delivery is not this consumer's.
-- Cost: XPENDING, XCLAIM.
--- include keys
--- include owner
if ownership(ARGV[1], ARGV[2], ARGV[3]) ~= 'mine' then return 0 end
redis.call('XCLAIM', lane_key(ARGV[2]), 'elkmq', ARGV[1], 0, ARGV[3], 'RETRYCOUNT', 2, 'JUSTID')
return 1
