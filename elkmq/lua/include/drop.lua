--- include settings
--- include lanes
--- include clock
-- Deletes a queue with all its keys. Returns the ready events it held; -1 where it is used, -2 where it is not empty: then
-- nothing changed. Dedupe marks, the effect store and reply inboxes go by themselves.
local function drop_queue(if_unused, if_empty)
  local settings = read_settings()
  if if_unused and redis.call('ZCOUNT', key('consumers'), ms(server_time()), '+inf') > 0 then return -1 end
  local waiting = ready(settings)
  if if_empty then
    local held = redis.call('ZCARD', key('delayed')) - not_work()
    for _, lane in ipairs(lanes_of(settings)) do held = held + redis.call('XLEN', lane_key(lane)) end
    if held > 0 then return -2 end
  end
  for _, lane in ipairs(lanes_of(settings)) do redis.call('UNLINK', lane_key(lane)) end
  for _, ending in ipairs({
    'settings', 'consumers', 'consumer_info', 'delayed', 'dead_letters', 'outbox', 'event_log', 'counters', 'rates', 'signals',
    'active_consumer', 'exclusive_consumer', 'wake', 'message_queue', 'response_stream', 'answered', 'newer_entries',
  }) do redis.call('UNLINK', key(ending)) end
  return waiting
end
