-- Hands out up to `n` entries, redelivered ones first, then by priority, then by age. Each is pending for this consumer
-- until it is settled or the consumer's lease is over.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 n  3 id of the wake token that led here, '' = none
-- Returns {server ms, state, lanes, next, keep, entries}
--   state    '' | 'paused' | 'standby' (another consumer of a single-active queue is served)
--   lanes    lanes in reading order, for the blocking read
--   next     ms until an entry is due or a lease ends, -1: none known
--   keep     1 where completed events are kept (retention)
--   entries  {lane, id, fields}, ...
-- Errors: ELKMQ_CONSUMER_GONE, ELKMQ_FORMAT.
-- Cost: TIME, ZSCORE, GET, ZRANGE, UNLINK, and one XREADGROUP a lane until there are n.
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
local settings = read_settings()
if ARGV[3] ~= '' then remove('w', ARGV[3]) end
local state = turn_of(settings, consumer)
local entries, next_due = {}, nil
if state == '' then
  next_due, settings = move_due(settings, now, 1000)
  entries = read_lanes(settings, consumer, n, now, false)
end
return {now, state, lanes_of(settings), next_event(now, next_due, #entries == 0), settings and (settings.retention_count or settings.retention_ms) and 1 or 0, entries}
