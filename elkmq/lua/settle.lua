-- Acknowledges deliveries: they are completed and leave the queue. Only their owner can; asked again after a lost reply,
-- it answers as the first time.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 1 = keep in the event log  3 1 = count here (server older than 7.0)  then lane, id, lane, id, ...
-- Returns 0 where all were accepted, else the positions (from 1) of those that were refused: their lease is lost.
-- Cost of one: XPENDING, XACK, XDEL.
--- include keys
--- include owner
--- include group
--- include retain
local consumer, keep, counting = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local refused, done = {}, 0
for i = 4, #ARGV, 2 do
  local lane, id = ARGV[i], ARGV[i + 1]
  local owner = ownership(consumer, lane, id)
  if owner == 'mine' then
    if keep then retain(lane, id) end
    remove(lane, id)
    done = done + 1
  elseif owner == 'lost' then
    refused[#refused + 1] = (i - 2) / 2
  end
end
if counting then count('completed', done) end
if #refused == 0 then return 0 end
return refused
