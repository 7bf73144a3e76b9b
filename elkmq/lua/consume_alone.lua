-- Makes a registered consumer the only one that a queue may have, as AMQP's exclusive consumer is, or (off) one of many again.
-- It is obeyed by those who ask before they consume (queue_declare.lua tells), until the consumer's lease is over.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 1 = on
-- Returns 1; 0 where others consume it already: then nothing changed.
-- Cost: TIME, ZSCORE, ZCOUNT, ZREM, SET; off: GET, DEL.
--- include keys
--- include clock
if ARGV[2] == '1' then
  local own = redis.call('ZSCORE', key('consumers'), ARGV[1]) and 1 or 0
  if redis.call('ZCOUNT', key('consumers'), ms(server_time()), '+inf') > own then return 0 end
  even_when_full()
  redis.call('SET', key('exclusive_consumer'), ARGV[1])
elseif redis.call('GET', key('exclusive_consumer')) == ARGV[1] then
  redis.call('DEL', key('exclusive_consumer'))
end
return 1
