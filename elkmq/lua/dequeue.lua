-- Hands out one event for good: it leaves the queue with the reading. A client that is going to wait for the next one is
-- registered for the time of its wait, so that what the blocking read hands it has an owner with a lease.
-- Where there is none, takes over from consumers whose lease is over: there may be no other client to do it.
-- KEYS  1 main lane
-- ARGV  1 1 = count here (server older than 7.0)  2 consumer to register where the queue is empty, '' = none  3 lease, ms
--       4 delivery limit where the settings have none
-- Returns {server ms, state, lanes, entry or false}, as take.lua; state 'more': none of very many entries was to be handed
--   out (their time was over), ask again.
-- Not safe to send again after a lost reply: the event that the lost reply held is gone.
-- Cost where there is one: TIME, GET, ZRANGE, LLEN, XREADGROUP x2, XDEL. Where there is none, instead of XDEL: ZREVRANGE,
-- ZRANGEBYSCORE x2, XLEN.
--- include keys
--- include clock
--- include settings
--- include due
--- include read
--- include leases
--- include takeover
local now, settings = server_time(), read_settings()
if ARGV[2] ~= '' then pass_tokens(ARGV[2], 1) end
if settings and settings.paused then return {now, 'paused', lanes_of(settings), false} end
local function read()
  local _
  _, settings = move_due(settings, now, 100)
  local groups, total, more = read_lanes(settings, 'dequeue', 1, now, true, 5000)
  if total == 0 then return nil, more end
  local lane, entry = groups[1][1], groups[1][2][1]
  return {lane, entry[1], entry[2]}, more
end
local entry, more = read()
if not entry and not more then
  mend_leases(now)
  local taken
  taken, more, settings = take_over(settings, now, tonumber(ARGV[4]), 200)
  sweep_responses(now)
  if taken > 0 then entry, more = read() end
end
in_use(settings, now)
if entry then
  if ARGV[1] == '1' then count('completed', 1) end
  return {now, '', lanes_of(settings), entry}
end
if more then return {now, 'more', lanes_of(settings), false} end
if ARGV[2] ~= '' then
  sure('hash', key('consumer_info'))
  sure('stream', lane_key('w'))
  for _, lane in ipairs(lanes_of(settings)) do ensure_group(lane) end
  ensure_group('w')
  redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[3])), ARGV[2])
  redis.call('HSET', key('consumer_info'), ARGV[2], '{"lease":' .. ARGV[3] .. ',"kind":"dequeue"}')
end
return {now, '', lanes_of(settings), false}
