-- Puts back what a dequeue handed out whose caller was torn away before it had it: it comes next, and counts as never handed
-- out. A dequeue of that turn which comes later hands out nothing.
-- KEYS  1 main lane
-- ARGV  1 client  2 its turn  3 1 = count here (server older than 7.0)  4 ms for which the turn is remembered
-- Returns 1 where an event was put back, else 0. Asked again it does nothing.
--- include keys
--- include clock
--- include settings
--- include requeue
--- include last_dequeue
local client, turn, settings = ARGV[1], tonumber(ARGV[2]), read_settings()
local before = last_dequeue(client)
if before and before[1] > turn then return 0 end
sure_of_return(settings)
redis.call('UNLINK', key('dequeued:' .. client))
local found = before and before[1] == turn and before[2]
if found then
  send_back(settings, before[2], before[3], before[4], server_time(), {failed = 0, seen = 0, limit = 0})
  if ARGV[3] == '1' then count('completed', -1) end
end
note_dequeue(client, ARGV[4], {turn})
return found and 1 or 0
