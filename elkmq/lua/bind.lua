-- Binds a queue, or another exchange, to an exchange. A binding that is there already changes nothing.
-- KEYS  1 the exchange
-- ARGV  1 PREFIXelkmq  2 name of the exchange  3 binding as JSON (include/routes.lua)  4 name of the queue, '' = an exchange
-- Returns 'bound', or 'no_exchange'.
--- include routes
if not redis.call('HGET', KEYS[1], '') then return 'no_exchange' end
if redis.call('HSETNX', KEYS[1], ARGV[3], '') == 1 then new_version(ARGV[1], ARGV[2]) end
if ARGV[4] ~= '' then redis.call('SADD', bindings_key(ARGV[1], ARGV[4]), ARGV[2]) end
return 'bound'
