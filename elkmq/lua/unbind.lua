-- Takes a binding away. One that is not there changes nothing.
-- KEYS  1 the exchange
-- ARGV  1 PREFIXelkmq  2 name of the exchange  3 binding as JSON (include/routes.lua)
-- Returns the number of bindings taken away.
--- include routes
local gone = redis.call('HDEL', KEYS[1], ARGV[3])
if gone > 0 then bindings_went(ARGV[1], ARGV[2]) end
return gone
