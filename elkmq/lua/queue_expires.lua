-- On a Cluster: notes when to look whether a queue is still used. Before the queue is declared, in its own slot.
-- KEYS  1 PREFIX{elkmq}(expiring)
-- ARGV  1 name  2 ms from now
-- Returns 1.
--- include keys
--- include clock
redis.call('ZADD', KEYS[1], ms(server_time() + tonumber(ARGV[2])), ARGV[1])
return 1
