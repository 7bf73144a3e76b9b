-- Declares a queue with RabbitMQ's arguments, or looks at one.
-- KEYS  1 main lane
-- ARGV  1 PREFIXelkmq; '' on a Cluster, where that is in another slot (queue_expires.lua)  2 name  3 1 = only look
--       4 arguments as JSON, to compare with those of an earlier declaration  5 ms that it outlives its last use, '' = for ever
--       6 who asks, as a consumer of an exclusive queue  7 an owner of exclusive queues that left them to whoever asks, '' =
--       nobody  8 ms, as in sweep.lua  then settings: name, value, ...
-- One that nobody used for as long as it was declared to last is deleted first.
-- Returns {'', ready, in flight, delayed, live consumers, the exclusive consumer that lives or ''}; {'absent'} where there is nothing to look at; {'differs', the
--   arguments it was declared with}; {'locked', owner} where it is another's, who is alive: then nothing changed.
--- include keys
--- include settings
--- include lanes
--- include clock
--- include wake
--- include exclusive
--- include unused
--- include routes
local settings, now, look = read_settings(), server_time(), ARGV[3] == '1'
if settings and settings.expires and not settings.gone and drop_unused(settings, now, ARGV[8]) then
  if ARGV[1] ~= '' then
    unbind_queue(ARGV[1], ARGV[2])
    redis.call('ZREM', ARGV[1] .. '(expiring)', ARGV[2])
    redis.call('SREM', ARGV[1] .. '(unattended)', ARGV[2])
  end
  settings = read_settings()
end
if settings and settings.gone then
  if look then return {'absent'} end
  redis.call('UNLINK', key('settings'))
  settings = nil
end
local owner = owner_besides(settings, ARGV[6], ARGV[7])
if owner then return {'locked', owner} end
local left = settings and settings.exclusive and settings.exclusive ~= ARGV[6] -- to whoever declares it next
local declared = settings and settings.declared
if not declared and redis.pcall('HGET', key('counters'), 'plain') == '1' then declared = '{}' end
if look then
  if not declared and redis.call('EXISTS', main, key('consumers'), key('delayed')) == 0 then return {'absent'} end
else
  if declared and declared ~= ARGV[4] and not left then return {'differs', declared} end
  if ARGV[4] == '{}' and #ARGV == 8 and not left then
    -- Not among the settings: those its producers would have to read.
    ensure_group('0')
    redis.pcall('HSET', key('counters'), 'plain', '1')
  elseif not declared or left then
    if left or not settings then settings = {format = $FORMAT, lanes = settings and settings.lanes or {}} end
    settings.declared = ARGV[4]
    for i = 9, #ARGV, 2 do settings[ARGV[i]] = ARGV[i + 1] end
    redis.call('SET', key('settings'), settings_text(settings))
    settings = read_settings()
    wake_all()
  end
  in_use(settings, now)
  if ARGV[1] ~= '' then
    if settings and settings.dead_letter_exchange then redis.call('SADD', ARGV[1] .. '(unattended)', ARGV[2]) end
    if ARGV[5] ~= '' then redis.call('ZADD', ARGV[1] .. '(expiring)', ms(now + tonumber(ARGV[5])), ARGV[2]) end
  end
end
local held = 0
for _, lane in ipairs(lanes_of(settings)) do held = held + redis.call('XLEN', lane_key(lane)) end
local waiting = ready(settings)
local alone = redis.pcall('GET', key('exclusive_consumer'))
local ends = type(alone) == 'string' and redis.call('ZSCORE', key('consumers'), alone)
return {
  '', waiting, held - waiting, redis.call('ZCARD', key('delayed')), redis.call('ZCOUNT', key('consumers'), ms(now), '+inf'),
  ends and tonumber(ends) > now and alone or '',
}
