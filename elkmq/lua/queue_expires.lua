-- On a Cluster: notes when to look whether a queue is still used. Before the queue is declared, in its own slot.
-- KEYS  1 PREFIX{elkmq}(expiring)
-- ARGV  1 name  2 ms from now
-- Returns 1.
--- include keys
-- To the microsecond: queue_forget.lua tells by it whether the queue was declared once more.
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.3f', t[1] * 1000 + t[2] / 1000 + tonumber(ARGV[2])), ARGV[1])
return 1
