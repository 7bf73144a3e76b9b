-- Hands out one event for good: it leaves the queue with the reading. A client that is going to wait for the next one is
-- registered for the time of its wait, so that what the blocking read hands it has an owner with a lease.
-- KEYS  1 main lane
-- ARGV  1 1 = count here (server older than 7.0)  2 consumer to register where the queue is empty, '' = none  3 lease, ms
-- Returns {server ms, state, lanes, entry or false}, as take.lua.
-- Not safe to send again after a lost reply: the event that the lost reply held is gone.
--- include keys
--- include clock
--- include settings
--- include due
--- include read
--- include leases
local now, settings = server_time(), read_settings()
if settings and settings.paused then return {now, 'paused', lanes_of(settings), false} end
local _
_, settings = move_due(settings, now, 100)
local entries = read_lanes(settings, 'dequeue', 1, now, true)
if #entries > 0 then
  if ARGV[1] == '1' then count('completed', 1) end
  return {now, '', lanes_of(settings), entries[1]}
end
if ARGV[2] ~= '' then
  for _, lane in ipairs(lanes_of(settings)) do ensure_group(lane) end
  ensure_group('w')
  mend_leases(now)
  redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[3])), ARGV[2])
  redis.call('HSET', key('consumer_info'), ARGV[2], '{"lease":' .. ARGV[3] .. ',"kind":"dequeue"}')
end
return {now, '', lanes_of(settings), false}
