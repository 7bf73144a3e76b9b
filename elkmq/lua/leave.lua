-- A consumer goes: what it still holds is handed back, not counted as a failure, and its registration ends. What it
-- took of clients of elk-mq 0.1 may have left an id in their list.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 how many to hand back in this step
-- Returns 0, or 1 where there may be more to hand back: ask again. The consumer stays registered until then.
--- include keys
--- include clock
--- include owner
--- include settings
--- include requeue
--- include turn
--- include takeover
--- include list
local now, settings = server_time(), read_settings()
sure_of_farewell(settings)
even_when_full()
local _, more
_, more, settings = send_all_back(settings, ARGV[1], now, tonumber(ARGV[2]), function(_, started)
  return {failed = 0, seen = started and 1 or 0, limit = 0}
end)
if more then return 1 end
forget(settings, ARGV[1], now)
drop_list(settings)
return 0
