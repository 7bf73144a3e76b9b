-- Acknowledges deliveries: they are completed and leave the queue. Only their owner can; asked again after a lost reply,
-- it answers as the first time.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 1 = keep in the event log  3 1 = count here (server older than 7.0)  then lane, id, lane, id, ...
-- Returns 0 where all were accepted, else the positions (from 1) of those that were refused: their lease is lost.
-- Cost of one: XPENDING, XACK, XDEL. Of many as well, where they were handed out in one lane, hardly more in between, and are
-- given in that order; else one XPENDING more for each.
-- Deliveries of the main lane, all of them this consumer's, are settled before the includes are even defined.
if ARGV[2] ~= '1' and ARGV[3] ~= '1' and #ARGV < 2000 then
  local ids, n = {}, 0
  for i = 4, #ARGV, 2 do
    if ARGV[i] ~= '0' then n = -math.huge end
    n = n + 1
    ids[n > 0 and n or 1] = ARGV[i + 1]
  end
  -- Of what is being worked on some are done before others: a few more may lie in between.
  local pending = n > 0 and redis.pcall('XPENDING', KEYS[1], 'elkmq', ids[1], ids[n], n > 1 and 2 * n + 8 or 1, ARGV[1]) or {}
  local mine = 0
  for i = 1, pending.err and 0 or #pending do
    if pending[i][1] == ids[mine + 1] then mine = mine + 1 end
  end
  if n > 0 and mine == n then
    redis.call('XACK', KEYS[1], 'elkmq', unpack(ids))
    redis.call('XDEL', KEYS[1], unpack(ids))
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
