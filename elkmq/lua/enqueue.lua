-- Accepts events, each once: an event whose unique id was accepted within the window is answered as it was then.
-- All or none: a batch that the queue has no room for is refused whole.
-- KEYS  1 main lane
-- ARGV  1 dedupe window, ms
--       then for each event: unique id, delay ms, priority, inbox ('' = none), n, n strings: field, value, ...
-- Returns for each event its id, with '=' before it where it had been accepted before. A request is asked anew once its
-- time is over, and joins itself (no '=') where the same client asks again before.
-- '~' for each where the queue was deleted a while ago and takes nothing (queue_delete.lua).
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT, ELKMQ_WRONG_KEY, ELKMQ_TOO_MANY_FIELDS.
-- Cost of a plain event: MGET, XADD, SET.
--- include plain
local plain = accept_plain()
if plain then return plain end
--- include keys
--- include clock
--- include settings
--- include lanes
--- include due
--- include accept
local events = events_from(2, false)
local settings = look_up(events)
check(settings, events)
return (accept_all(settings, tonumber(ARGV[1]), events))
