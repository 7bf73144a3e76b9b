-- A client's first contact with a queue: makes the group before the first event of ours is there, so that it is known
-- which entries are history of clients of elk-mq 0.1 (see include/group.lua).
-- KEYS  1 main lane
-- ARGV  1 1 = only look: change nothing, and make nothing
-- Returns {1 where the queue was new, else 0; 1 where it serves consumers of elk-mq 0.1, else 0}.
--- include keys
--- include group
--- include settings
local settings = read_settings()
local served = settings and settings.serve_elkmq01 and 1 or 0
if ARGV[1] == '1' then return {1 - redis.call('EXISTS', main), served} end
even_when_full()
return {ensure_group('0') and 1 or 0, served}
