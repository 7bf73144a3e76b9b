-- Hands out one event for good: it leaves the queue with the reading. A client that is going to wait for the next one is
-- registered for the time of its wait, so that what the blocking read hands it has an owner with a lease; that comes first
-- when it asks again.
-- Where there is none, takes over from consumers whose lease is over: there may be no other client to do it.
-- KEYS  1 main lane
-- ARGV  1 1 = count here (server older than 7.0)  2 consumer to register where the queue is empty, '' = none  3 lease, ms
--       4 delivery limit where the settings have none  5 client, '' = none  6 its turn: how many dequeues it made
--       7 ms for which the turn is remembered  8 1 = competes with original consumers knowingly
-- Returns {server ms, state, lanes, entry or false}, as take.lua; state 'more': none of very many entries was to be handed
--   out (their time was over), ask again.
-- Errors: ELKMQ_SERVES_ORIGINAL, ELKMQ_FORMAT.
-- Asked again for the same turn it answers as the first time; without a client it is not safe to send again.
-- Cost where there is one, and no client: TIME, GET, ZRANGE, LLEN, XREADGROUP x2, XDEL. Where there is none, instead of
-- XDEL: ZREVRANGE, ZRANGEBYSCORE x2, XLEN. With a client GET and SET more.
--- include keys
--- include clock
--- include settings
--- include due
--- include read
--- include leases
--- include takeover
--- include last_dequeue
local now, client, turn = server_time(), ARGV[5], tonumber(ARGV[6])
local settings = read_settings()
if settings and settings.serve_elkmq01 and ARGV[8] ~= '1' then
  fail('ELKMQ_SERVES_ORIGINAL the queue serves consumers of elk-mq 0.1')
end
if ARGV[2] ~= '' then pass_tokens(ARGV[2], 1) end
local before = last_dequeue(client)
if before and before[1] >= turn then
  return {now, '', lanes_of(settings), before[1] == turn and before[2] and {before[2], before[3], before[4]} or false}
end
if settings and settings.paused then
  note_dequeue(client, ARGV[7], {turn})
  return {now, 'paused', lanes_of(settings), false}
end

-- What a blocking read was handed.
local function waited_for()
  for _, lane in ipairs(lanes_of(settings)) do
    for _, item in ipairs(pending_of(ARGV[2], lane, 10)) do
      local entry = entry_of(lane, item[1])
      local t = entry and as_table(entry[2])
      if t and is_response(t, lane) then
        keep_response(item[1], t.response)
      elseif t and is_newer(t) then
        sure_of_newer()
        remove(lane, item[1])
        set_aside(lane, item[1], t, now)
        tell_newer()
      else
        remove(lane, item[1])
        if entry then return {lane, entry[1], entry[2]} end
      end
    end
  end
end

local function read()
  local _
  _, settings = move_due(settings, now, 100)
  local groups, total, more = read_lanes(settings, 'dequeue', 1, now, true, 5000)
  if total == 0 then return nil, more end
  local lane, entry = groups[1][1], groups[1][2][1]
  return {lane, entry[1], entry[2]}, more
end

local entry, more = ARGV[2] ~= '' and waited_for() or nil, false
if not entry then entry, more = read() end
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
  note_dequeue(client, ARGV[7], {turn, entry[1], entry[2], entry[3]})
  return {now, '', lanes_of(settings), entry}
end
note_dequeue(client, ARGV[7], {turn})
if more then return {now, 'more', lanes_of(settings), false} end
if ARGV[2] ~= '' then
  sure('hash', key('consumer_info'))
  sure('stream', lane_key('w'))
  even_when_full()
  for _, lane in ipairs(lanes_of(settings)) do ensure_group(lane) end
  ensure_group('w')
  redis.call('ZADD', key('consumers'), ms(now + tonumber(ARGV[3])), ARGV[2])
  redis.call('HSET', key('consumer_info'), ARGV[2], '{"lease":' .. ARGV[3] .. ',"kind":"dequeue"}')
end
return {now, '', lanes_of(settings), false}
