-- On a Cluster: what sweep.lua does, for one queue. What it shares with others is in another slot: queue_expires.lua,
-- queue_forget.lua.
-- KEYS  1 main lane
-- ARGV  1 1 = delete it if it is unused  2 1 = send on what has expired  3 ms, as in sweep.lua
-- Returns {1 where it is gone, ms until to look again whether it is used (-1: never), ms until to look again what has
--   expired (-1: never), entries in its outbox}.
-- Cost: TIME, GET, and what drop_unused() and pass_expired() cost.
--- include keys
--- include clock
--- include settings
--- include unused
--- include unattended
local now, settings = server_time(), read_settings()
local gone, at
if ARGV[1] == '1' then gone, at = drop_unused(settings, now, ARGV[3]) end
if gone then return {1, -1, -1, 0} end
local again = -1
if ARGV[2] == '1' and settings and settings.dead_letter_exchange then again = pass_expired(settings, now) end
return {0, at and math.ceil(at - now) or -1, again, redis.call('XLEN', key('outbox'))}
