-- On a Cluster: the queues that sweep_queue.lua is to see to.
-- KEYS  1 PREFIX{elkmq}(expiring)  2 PREFIX{elkmq}(unattended)
-- Returns {{name, score, ...} of queues that may be unused, names of the unattended}.
-- Cost: TIME, ZRANGEBYSCORE, SMEMBERS.
--- include keys
--- include clock
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms(server_time()), 'WITHSCORES', 'LIMIT', 0, 10), redis.call('SMEMBERS', KEYS[2]),
}
