-- Declares a queue with RabbitMQ's arguments, or looks at one.
-- KEYS  1 main lane
-- ARGV  1 PREFIXelkmq  2 name  3 1 = only look  4 arguments as JSON, to compare with those of an earlier declaration
--       5 ms that it outlives its last use, '' = for ever  then settings: name, value, ...
-- Returns {'', ready, in flight, delayed, live consumers}; {'absent'} where there is nothing to look at; {'differs', the
--   arguments it was declared with}: nothing changed.
--- include keys
--- include settings
--- include lanes
--- include clock
--- include wake
local settings, now = read_settings(), server_time()
if settings and settings.gone then
  if ARGV[3] == '1' then return {'absent'} end
  redis.call('UNLINK', key('settings'))
  settings = nil
end
if ARGV[3] == '1' then
  if not (settings and settings.declared) and redis.call('EXISTS', main, key('consumers'), key('delayed')) == 0 then return {'absent'} end
else
  if settings and settings.declared and settings.declared ~= ARGV[4] then return {'differs', settings.declared} end
  if ARGV[4] == '{}' and #ARGV == 5 then
    -- Nothing to remember: it is there, and costs its producers no settings to read.
    ensure_group('0')
  elseif not (settings and settings.declared) then
    settings = settings or {format = 1, lanes = {}}
    settings.declared = ARGV[4]
    for i = 6, #ARGV, 2 do settings[ARGV[i]] = ARGV[i + 1] end
    redis.call('SET', key('settings'), settings_text(settings))
    settings = read_settings()
    wake_all()
  end
  if settings and settings.dead_letter_exchange then redis.call('SADD', ARGV[1] .. '(unattended)', ARGV[2]) end
  if ARGV[5] ~= '' then redis.call('ZADD', ARGV[1] .. '(expiring)', ms(now + tonumber(ARGV[5])), ARGV[2]) end
end
local held = 0
for _, lane in ipairs(lanes_of(settings)) do held = held + redis.call('XLEN', lane_key(lane)) end
local waiting = ready(settings)
return {'', waiting, held - waiting, redis.call('ZCARD', key('delayed')), redis.call('ZCOUNT', key('consumers'), ms(now), '+inf')}
