-- The effect store's last step: the result, or the claim given back.
-- KEYS  1 main lane
-- ARGV  1 key  2 who claimed  3 'done' | 'release'  4 result  5 how long the result is kept, ms
-- Returns 1; 0 where the claim is not this client's any more: then nothing changed.
--- include keys
--- include clock
local store = key('once:' .. ARGV[1])
local held = redis.call('HMGET', store, 'result', 'owner')
if held[1] then return held[2] == ARGV[2] and ARGV[3] == 'done' and 1 or 0 end
if held[2] ~= ARGV[2] then return 0 end
if ARGV[3] == 'release' then
  redis.call('DEL', store)
else
  redis.call('HSET', store, 'result', ARGV[4])
  redis.call('HDEL', store, 'until')
  redis.call('PEXPIRE', store, ARGV[5])
end
return 1
