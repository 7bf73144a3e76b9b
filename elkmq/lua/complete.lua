-- Completes one delivery and what follows from it in one step: its response, further events, or both; or none of it.
-- KEYS  1 main lane  2.. main lanes of the queues that get events (the same slot)
-- ARGV  1 consumer  2 lane  3 id  4 1 = keep in the event log  5 1 = count here  6 dedupe window, ms
--       7 response JSON ('' = none)  8 request's uuid, hyphenated  9 request's timeout, s
--       then for each event: index of its queue in KEYS (0: the outbox, its queue is in another slot), then as in
--       enqueue.lua: unique id, delay ms, priority, inbox, n, n strings; for the outbox the fields name the queue as `to`.
-- Returns {outcome, response, ids}: outcome 'mine', 'done' (it had completed this delivery before: nothing is sent again)
--         or 'lost'; response 'sent' | 'late' | 'nobody' | ''; ids of the events, as enqueue.lua answers them.
-- Errors: ELKMQ_QUEUE_FULL of a queue that gets events, ELKMQ_FORMAT, ELKMQ_WRONG_KEY, ELKMQ_TOO_MANY_FIELDS; then nothing
--         changed.
-- Cost with a response to an inbox: TIME, XPENDING, XRANGE, GET, TYPE, XADD, PTTL, PEXPIRE, SET, XACK, XDEL.
--- include keys
--- include clock
--- include owner
--- include settings
--- include accept
--- include retain
--- include respond
local consumer, lane, id, window = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
local keep, counting = ARGV[4] == '1', ARGV[5] == '1'
local outcome = ownership(consumer, lane, id)
if outcome ~= 'mine' then return {outcome, '', {}} end
local now, events = server_time(), events_from(10, true)
local queues, outbox = by_queue(events), {}
for _, event in ipairs(events) do
  if event.queue == 0 then outbox[#outbox + 1] = event end
end
if #outbox > 0 then sure('stream', key('outbox')) end
local settings
if keep then
  settings = read_settings()
  sure('stream', key('event_log'))
end
local entry
if keep or ARGV[7] ~= '' then entry = entry_of(lane, id) end
local response = ''
if ARGV[7] ~= '' then
  response = send_response(entry and as_table(entry[2]), id, ARGV[8], tonumber(ARGV[9]), ARGV[7], now)
end
for _, event in ipairs(outbox) do
  event.id = redis.call('XADD', key('outbox'), '*', 'unique', event.unique, 'delay', event.delay, 'priority', event.priority,
    unpack(event.fields))
end
local ids = accept_for(queues, window, events)
remove(lane, id)
if keep and entry then retain(settings, {entry}) end
if counting then count('completed', 1) end
return {outcome, response, ids}
