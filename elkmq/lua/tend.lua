-- The heartbeat of a consumer, and the chores that come with it: takes over from consumers whose lease is over, moves what
-- is due, clears what clients of elk-mq 0.1 left.
-- KEYS  1 main lane
-- ARGV  1 consumer ('' = chores only)  2 lease, ms  3 delivery limit where the settings have none  4 1 = sample the counters
-- Returns {server ms, next, more, taken over, outbox, settings' text or false}
--   next    ms until an entry is due or a lease ends, -1: none known
--   more    1 where there is more to do at once
--   outbox  entries waiting in the outbox
-- Errors: ELKMQ_CONSUMER_GONE: the lease is over, its deliveries are others' now.
-- Cost with nothing to do: TIME, ZSCORE, GET, ZREVRANGE, HGET, ZADD, ZRANGE x2, XLEN.
--- include keys
--- include clock
--- include owner
--- include settings
--- include leases
--- include takeover
--- include turn
--- include legacy
local consumer, now = ARGV[1], server_time()
if consumer ~= '' then require_registered(consumer) end
local text = redis.call('GET', key('settings'))
local settings = settings_of(text)
mend_leases(now)
if consumer ~= '' then redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[2])), consumer) end
local taken, more
taken, more, settings = take_over(settings, now, tonumber(ARGV[3]), 200)
local due
due, settings = move_due(settings, now, 200)
if due and due <= now then more = true end
if ARGV[4] == '1' then
  drop_list(settings)
  sweep_responses(now)
  adopt_orphans(settings, now, tonumber(ARGV[3]))
end
return {now, next_event(now, due, true), more and 1 or 0, taken, redis.call('XLEN', key('outbox')), text}
