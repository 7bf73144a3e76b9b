-- Registers a consumer: from now on it holds a lease on the queue, and what it is handed is its own until it settles it
-- or the lease is over. Again with the same name: renews the lease. A name whose lease was declared over is never used
-- again: acks of before could not be told from acks of now.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 lease, ms  3 information as JSON  4 release's flag: 1 = competes with original consumers knowingly
-- Returns {server ms, settings' text or false, plain}; ELKMQ_SERVES_ORIGINAL where the queue serves consumers of elk-mq 0.1.
--   plain   1 where a first take would find nothing to do but to read the main lane: no settings, nothing that is due some
--           time, that came back or that clients of elk-mq 0.1 left, and no other consumer
-- Cost: TIME, GET, TYPE x4, ZREM, XGROUP x3, XRANGE, ZREVRANGE, ZADD, HSET, and on a queue with no settings EXISTS, XLEN,
-- HEXISTS. Where others are registered, HGET more, and not these three.
--- include keys
--- include clock
--- include settings
--- include group
--- include leases
local now = server_time()
local text = redis.call('GET', key('settings'))
local settings = settings_of(text)
if settings and settings.serve_elkmq01 and ARGV[4] ~= '1' then
  fail('ELKMQ_SERVES_ORIGINAL the queue serves consumers of elk-mq 0.1')
end
sure_of_lanes(settings)
sure('stream', lane_key('w'))
sure('hash', key('consumer_info'))
even_when_full()
for _, lane in ipairs(lanes_of(settings)) do ensure_group(lane) end
ensure_group('w')
local others = mend_leases(now)
redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[2])), ARGV[1])
redis.call('HSET', key('consumer_info'), ARGV[1], ARGV[3])
local plain = not text and not others
  and redis.call('EXISTS', key('delayed'), key('newer_entries'), key('message_queue')) == 0
  and redis.call('XLEN', lane_key('r')) == 0 and redis.pcall('HEXISTS', key('counters'), 'history_ms') == 0
return {now, text, plain and 1 or 0}
