-- Declares an exchange.
-- KEYS  1 the exchange
-- ARGV  1 PREFIXelkmq  2 name  3 definition as JSON, '' = only say what it is
-- Returns the definition that holds: another than was given where the exchange is there already; '' where there is none.
--- include routes
local held = redis.call('HGET', KEYS[1], '')
if held or ARGV[3] == '' then return held or '' end
redis.call('HSET', KEYS[1], '', ARGV[3])
redis.call('SADD', ARGV[1] .. '(exchanges)', ARGV[2])
new_version(ARGV[1], ARGV[2])
return ARGV[3]
