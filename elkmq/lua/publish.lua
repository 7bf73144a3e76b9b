-- Accepts events for several queues in one step, by a route that must still be right. All or none.
-- KEYS  1.. main lanes of m queues, then the exchanges that the route passes
-- ARGV  1 dedupe window, ms  2 not looked at  3 m  then the version of each exchange
--       then for each event: index of its queue in KEYS, unique id, delay ms, priority, inbox, n, n strings: field, value, ...
-- Returns for each event its id, with '=' before it where it had been accepted before, '~' where its queue is gone;
--   or 'changed' where a version is another: then nothing changed.
-- Errors: as of enqueue.lua.
-- Cost: HGET an exchange, MGET a queue, and an event: XADD, SET.
--- include keys
--- include clock
--- include settings
--- include accept
local m = tonumber(ARGV[3])
for i = m + 1, #KEYS do
  if (redis.call('HGET', KEYS[i], 'v') or '') ~= ARGV[3 + i - m] then return 'changed' end
end
local events = events_from(4 + #KEYS - m, true)
local queues = by_queue(events)
return accept_for(queues, tonumber(ARGV[1]), events)
