-- The effect store's first step: who may do what KEY stands for. A claim that was not finished ends with its time.
-- KEYS  1 main lane
-- ARGV  1 key  2 who claims  3 how long the claim holds, ms
-- Returns {'claimed'}, {'done', result}, or {'busy', ms until the claim ends}.
--- include keys
--- include clock
local store, now = key('once:' .. ARGV[1]), server_time()
local held = redis.call('HMGET', store, 'result', 'owner', 'until')
if held[1] then return {'done', held[1]} end
if held[2] and held[2] ~= ARGV[2] and tonumber(held[3]) > now then
  return {'busy', string.format('%.0f', tonumber(held[3]) - now)}
end
redis.call('HSET', store, 'owner', ARGV[2], 'until', ms(now + tonumber(ARGV[3])))
redis.call('PEXPIRE', store, ARGV[3])
return {'claimed'}
