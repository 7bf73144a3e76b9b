-- Deletes a queue with all its keys.
-- KEYS  1 main lane
-- ARGV  1 1 = only if unused (no consumer)  2 1 = only if empty (nothing ready, in flight or delayed)
-- Returns the number of ready events it held; -1 where it is used, -2 where it is not empty: then nothing changed.
-- Dedupe marks, the effect store and reply inboxes are not deleted: they go by themselves.
--- include keys
--- include settings
--- include lanes
--- include clock
local settings, now = read_settings(), server_time()
if ARGV[1] == '1' and redis.call('ZCOUNT', key('consumers'), ms(now), '+inf') > 0 then return -1 end
local waiting = ready(settings)
if ARGV[2] == '1' then
  local held = redis.call('ZCARD', key('delayed'))
  for _, lane in ipairs(lanes_of(settings)) do held = held + redis.call('XLEN', lane_key(lane)) end
  if held > 0 then return -2 end
end
for _, lane in ipairs(lanes_of(settings)) do redis.call('UNLINK', lane_key(lane)) end
for _, ending in ipairs({
  'settings', 'consumers', 'consumer_info', 'delayed', 'dead_letters', 'outbox', 'event_log', 'counters', 'rates', 'signals',
  'active_consumer', 'wake', 'message_queue', 'response_stream', 'answered',
}) do redis.call('UNLINK', key(ending)) end
return waiting
