-- On a Cluster: takes away what a queue that is gone shared with others: its bindings above all.
-- KEYS  1 PREFIX{elkmq}(expiring)  2 PREFIX{elkmq}(unattended)
-- ARGV  1 PREFIX{elkmq}  2 name  3 when it was to be looked at, before it went ('' = never)
-- Returns 1; 0 where it was declared anew meanwhile, with a life of its own: then nothing changed.
--- include keys
--- include routes
if (redis.call('ZSCORE', KEYS[1], ARGV[2]) or '') ~= ARGV[3] then return 0 end
unbind_queue(ARGV[1], ARGV[2])
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
