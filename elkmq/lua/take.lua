-- Hands out up to `n` entries, redelivered ones first, then by priority, then by age. Each is pending for this consumer
-- until it is settled or the consumer's lease is over.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 n  3 id of a wake token that led here, '' = none
-- Returns {server ms, state, lanes, next, keep, entries, signal}
--   state    '' | 'paused' | 'standby' (another consumer of a single-active queue is served)
--   lanes    lanes in reading order, for the blocking read
--   next     ms until an entry is due or a lease ends, -1: none known; 0 with no entries: there is more to read at once
--   keep     + 1 where completed events are kept (retention), + 2 where the queue has any settings, + 4 where dead letters wait
--            to go on to their exchange, + 8 where there may be more that releases before this one set aside: ask with this script
--   entries  {lane, {{id, fields}, ...}} for each lane that has any
--   signal   where state is not '': the id after which to wait for a signal
-- Errors: ELKMQ_CONSUMER_GONE, ELKMQ_FORMAT; ELKMQ_SERVES_ORIGINAL where the queue was set to since the consumer registered.
-- Cost with the two lanes that every queue has: TIME, ZSCORE, GET, ZRANGE, LLEN, XREADGROUP x2. A lane more: XREADGROUP
-- more; no lane is read once there are n; where there is nothing, ZRANGE and HMGET more.
--- include keys
--- include clock
--- include owner
--- include settings
--- include due
--- include read
--- include turn
local consumer, n = ARGV[1], tonumber(ARGV[2])
local now = server_time()
require_registered(consumer)
-- Before the settings are read: others must hear of a new format too.
if ARGV[3] ~= '' then pass_tokens(consumer, 1) end
local settings = read_settings()
if settings and settings.serve_elkmq01 then
  local info = redis.pcall('HGET', key('consumer_info'), consumer)
  if type(info) ~= 'string' or not string.find(info, '"beside_originals": true', 1, true) then
    fail('ELKMQ_SERVES_ORIGINAL the queue serves consumers of elk-mq 0.1')
  end
end
local state = turn_of(settings, consumer)
local groups, total, next_due, more, aside = {}, 0, nil, false, false
if state == '' then
  aside = $FORMAT > 1 and known_again() > 0
  next_due, settings = move_due(settings, now, 1000)
  groups, total, more = read_lanes(settings, consumer, n, now, false, math.max(1000, n))
end
local keep = settings and ((settings.retention_count or settings.retention_ms) and 3 or 2) or 0
if aside then keep = keep + 8 end
-- This very take may have found some that expired. The entries are handed out by now: nothing may fail any more.
local waiting = settings and settings.dead_letter_exchange and redis.pcall('XLEN', key('outbox'))
if type(waiting) == 'number' and waiting > 0 then keep = keep + 4 end
local next_ms = more and 0 or next_event(now, next_due, total == 0)
return {now, state, lanes_of(settings), next_ms, keep, groups, state ~= '' and last_signal() or false}
