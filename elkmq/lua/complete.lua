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
-- Cost of nothing but the completion: TIME, XPENDING, XACK, XDEL. An event more: MGET, XADD, SET.
-- With a response to an inbox: XPENDING, GET, XADD, PTTL, PEXPIRE, APPEND, XACK, XDEL. TIME too where it is not plain.
-- The response to a request of ours that was handed out for the first time is sent before the includes are even defined; its
-- inbox and its deadline stand in the mark that it left.
if #ARGV == 9 and ARGV[7] ~= '' and ARGV[2] == '0' and ARGV[4] ~= '1' and ARGV[5] ~= '1' then
  local id = ARGV[3]
  local pending = redis.pcall('XPENDING', KEYS[1], 'elkmq', id, id, 1, ARGV[1])
  if not pending.err and #pending > 0 then
    local base = string.sub(KEYS[1], 1, -15)
    local mark = base .. '(enqueued:' .. string.gsub(ARGV[8], '-', '') .. ')'
    local asked, inbox, deadline = string.match(redis.call('GET', mark) or '', '^([^|]+)|([^|]+)|(%d+)$')
    if asked == id then
      local replies = base .. '(replies:' .. inbox .. ')'
      local written = redis.call('XADD', replies, 'MAXLEN', '~', 100000, '*', 'response', ARGV[7], 'uuid', ARGV[8])
      -- Its id tells the time. Nobody sees what a script takes away again before it ends.
      local left, expiry = deadline - string.match(written, '^%d+'), redis.call('PTTL', replies)
      if left > 0 then
        if expiry < left then redis.call('PEXPIRE', replies, left + 1000) end
        redis.call('APPEND', mark, '|' .. written)
        redis.call('XACK', KEYS[1], 'elkmq', id)
        redis.call('XDEL', KEYS[1], id)
        return {'mine', 'sent', {}}
      end
      redis.call('XDEL', replies, written)
      if expiry < 0 then redis.call('DEL', replies) end -- it was not there before
    end
  end
end
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
if outcome ~= 'mine' then
  -- Completed before, by this consumer, whose reply was lost: its response was sent where the mark names one.
  local mark = outcome == 'done' and ARGV[7] ~= '' and redis.call('GET', key('enqueued:' .. string.gsub(ARGV[8], '-', '')))
  return {outcome, mark and string.find(mark, '^[^|]+|[^|]*|%d*|.') and 'sent' or '', {}}
end
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
