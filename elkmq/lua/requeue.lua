-- Sends deliveries back, each under a new id, to be handed out before new work; or puts them off by a delay. Counted as
-- a failure, or not; one that failed more often than the delivery limit goes to the dead letters.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 delay, ms  3 1 = it failed  4 1 = the application had seen it  5 error text
--       6 delivery limit where the queue's settings have none (0: no limit)  then lane, id, ...
-- Returns for each: 'requeued', 'dead', 'done' (this consumer had settled it before) or 'lost'.
-- Cost of one: TIME, GET, TYPE x3, XPENDING, XRANGE, XACK, XDEL, XADD, HINCRBY.
--- include keys
--- include clock
--- include owner
--- include settings
--- include requeue
local now, settings, outcomes = server_time(), read_settings(), {}
local options = {
  delay = tonumber(ARGV[2]), failed = tonumber(ARGV[3]), seen = tonumber(ARGV[4]), text = ARGV[5], limit = tonumber(ARGV[6]),
}
sure_of_return(settings, options.delay)
for i, delivery in ipairs(deliveries(ARGV[1], 7)) do
  local lane, id, outcome = delivery[1], delivery[2], delivery[3]
  if outcome == 'mine' then
    local entry = entry_of(lane, id)
    if entry then
      outcome, settings = send_back(settings, lane, id, entry[2], now, options)
    else
      redis.call('XACK', lane_key(lane), 'elkmq', id)
      outcome = 'done'
    end
  end
  outcomes[i] = outcome
end
return outcomes
