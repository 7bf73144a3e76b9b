-- Acknowledges deliveries: they are completed and leave the queue. Only their owner can; asked again after a lost reply,
-- it answers as the first time.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 1 = keep in the event log  3 1 = count here (server older than 7.0)  then lane, id, lane, id, ...
-- Returns 0 where all were accepted, else the positions (from 1) of those that were refused: their lease is lost.
-- Cost of one: XPENDING, XACK, XDEL; of many as well, where they were handed out one after the other in one lane and are
-- given in that order, else one XPENDING more for each.
-- One delivery of the main lane, pending for who asks, is served before anything else is even defined (see enqueue.lua).
if #ARGV == 5 and ARGV[4] == '0' and ARGV[2] ~= '1' and ARGV[3] ~= '1' then
  local pending = redis.pcall('XPENDING', KEYS[1], 'elkmq', ARGV[5], ARGV[5], 1, ARGV[1])
  if not pending.err and #pending > 0 then
    redis.call('XACK', KEYS[1], 'elkmq', ARGV[5])
    redis.call('XDEL', KEYS[1], ARGV[5])
    return 0
  end
end
--- include keys
--- include owner
--- include group
--- include retain
local consumer, keep, counting = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local list = deliveries(consumer, 4)
local settings
if keep then
  settings = read_settings()
  sure('stream', key('event_log'))
end
local lanes, entries, refused, done = {}, {}, {}, 0
for i, delivery in ipairs(list) do
  local lane, id, outcome = delivery[1], delivery[2], delivery[3]
  if outcome == 'mine' then
    if not lanes[lane] then lanes[lane] = {} end
    table.insert(lanes[lane], id)
    if keep then entries[#entries + 1] = entry_of(lane, id) end
    done = done + 1
  elseif outcome == 'lost' then
    refused[#refused + 1] = i
  end
end
for lane, ids in pairs(lanes) do remove_all(lane, ids) end
if keep then retain(settings, entries) end
if counting then count('completed', done) end
if #refused == 0 then return 0 end
return refused
