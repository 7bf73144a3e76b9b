-- Puts what was dequeued but cannot be read among the dead letters.
-- KEYS  1 main lane
-- ARGV  1 lane  2 id  3 reason  4 error text  5 1 = count here (server older than 7.0)
--       then fields and values as they were handed out
-- Returns 1. Not safe to send again after a lost reply: the dead letter could be there twice.
--- include keys
--- include settings
--- include bury
local fields, settings = {}, read_settings()
for i = 6, #ARGV do fields[i - 5] = ARGV[i] end
sure_of_graves(settings)
bury(settings, ARGV[1], ARGV[2], as_table(fields), ARGV[3], ARGV[4], server_time())
if ARGV[5] == '1' then count('completed', -1) end
return 1
