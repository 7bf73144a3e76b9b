-- Accepts events for several queues in one step, by a route that must still be right. All or none.
-- KEYS  1.. main lanes of m queues, then the exchanges that the route passes
-- ARGV  1 dedupe window, ms  2 m  then the version of each exchange
--       then for each event: index of its queue in KEYS, unique id, delay ms, priority, inbox, n, n strings: field, value, ...
-- Returns for each event its id as enqueue.lua does, '~' where its queue is gone; or 'changed' where a version is another:
--   then nothing changed.
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT, ELKMQ_WRONG_KEY, ELKMQ_TOO_MANY_FIELDS.
-- Cost: HGET an exchange, MGET, and an event: XADD, SET.
--- include keys
--- include clock
--- include settings
--- include lanes
--- include due
--- include accept
local m = tonumber(ARGV[2])
for i = m + 1, #KEYS do
  if (redis.call('HGET', KEYS[i], 'v') or '') ~= ARGV[2 + i - m] then return 'changed' end
end
local events = events_from(3 + #KEYS - m, true)
return (accept_for(by_queue(events), tonumber(ARGV[1]), events))
