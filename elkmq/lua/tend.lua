-- The heartbeat of a consumer, and the chores that come with it: takes over from consumers whose lease is over, moves what
-- is due, clears what clients of elk-mq 0.1 left, and finds what they finished late (list.lua).
-- KEYS  1 main lane
-- ARGV  1 consumer ('' = chores only)  2 lease, ms  3 delivery limit where the settings have none  4 1 = the rarer chores
--       too: responses of elk-mq 0.1, deliveries of consumers that nobody knows, a sample of the counters
-- Returns {server ms, next, more, taken over, outbox, settings' text or false}
--   next    ms until an entry is due or a lease ends, -1: none known
--   more    1 where there is more to do at once
--   outbox  entries waiting in the outbox
-- Where a chore stops with an error, it has changed nothing; those before it are done, and the lease is renewed.
-- Errors: ELKMQ_CONSUMER_GONE: the lease is over, its deliveries are others' now.
-- Cost with nothing to do: TIME, ZSCORE, GET, ZREM, ZREVRANGE, HGET, ZADD, ZRANGEBYSCORE, ZRANGE x2, HMGET, XLEN.
--- include keys
--- include clock
--- include owner
--- include settings
--- include leases
--- include takeover
--- include turn
--- include legacy
--- include list
--- include totals
--- include known_again
local consumer, now = ARGV[1], server_time()
if consumer ~= '' then require_registered(consumer) end
local text = redis.call('GET', key('settings'))
local settings = settings_of(text)

-- Times and totals, newest first, from which anybody can tell the rates of the last minutes with a single look.
local function sample()
  local last = redis.call('LINDEX', key('rates'), 0)
  local before = last and tonumber(string.match(last, '^%d+'))
  if before and before <= now and now - before < 5000 then return end
  local accepted, completed = totals(settings, pairs_of(redis.call('HGETALL', key('counters'))))
  redis.call('LPUSH', key('rates'), string.format('%.0f %.0f %.0f', now, accepted, completed))
  redis.call('LTRIM', key('rates'), 0, 59)
end

even_when_full()
mend_leases(now)
if consumer ~= '' then redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[2])), consumer) end
local taken, more
taken, more, settings = take_over(settings, now, tonumber(ARGV[3]), 200)
local due
due, settings = move_due(settings, now, 200)
if due and due <= now then more = true end
if ARGV[4] == '1' then
  sure_of_history()
  more = drop_list(settings) or more
  sweep_responses(now)
  local orphans
  orphans, settings = adopt_orphans(settings, now, tonumber(ARGV[3]))
  more = more or orphans
  if known_again() > 0 then
    -- A consumer that knows them may have had no room when it was told of them. Those of elk-mq 0.1 have to be given them.
    if settings and settings.serve_elkmq01 then bring_back(settings, 100) else wake_all() end
  end
  sample()
end
return {now, next_event(now, due, true), more and 1 or 0, taken, redis.call('XLEN', key('outbox')), text}
