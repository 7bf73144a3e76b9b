-- Puts what was dequeued but cannot be read among the dead letters.
-- KEYS  1 main lane
-- ARGV  1 lane  2 id  3 reason  4 error text  then fields and values as they were handed out
-- Returns 1. Not safe to send again after a lost reply: the dead letter could be there twice.
--- include keys
--- include settings
--- include bury
local fields = {}
for i = 5, #ARGV do fields[i - 4] = ARGV[i] end
bury(read_settings(), ARGV[1], ARGV[2], as_table(fields), ARGV[3], ARGV[4], server_time())
return 1
