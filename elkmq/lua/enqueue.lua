-- Accepts events, each once: an event whose unique id was accepted within the window is answered as it was then.
-- All or none: a batch that the queue has no room for is refused whole.
-- KEYS  1 main lane
-- ARGV  1 dedupe window, ms  2 1 = count here (server older than 7.0)
--       then for each event: unique id, delay ms, priority, inbox ('' = none), n, n strings: field, value, ...
-- Returns for each event its id, with '=' before it where it had been accepted before. A request is asked anew once its
-- time is over, and joins itself (no '=') where the same client asks again before.
-- '~' for each where the queue was deleted a while ago and takes nothing (queue_delete.lua).
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT, ELKMQ_WRONG_KEY, ELKMQ_TOO_MANY_FIELDS.
-- Cost of a plain event: MGET, XADD, SET.
-- One plain event on a queue with no settings, which is most of them, is served before anything else is even defined:
-- the functions of the includes are made anew by each call of a script.
if #ARGV == 7 + ARGV[7] and ARGV[4] == '0' and ARGV[5] == '0' and ARGV[6] == '' and ARGV[2] ~= '1' and #ARGV < 100 then
  local base = string.sub(KEYS[1], 1, -15)
  local mark = base .. '(enqueued:' .. ARGV[3] .. ')'
  local found = redis.call('MGET', base .. '(settings)', mark)
  if not found[1] and not found[2] then
    local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 8))
    if ARGV[1] ~= '0' and ARGV[3] ~= '' then redis.call('SET', mark, id, 'PX', ARGV[1]) end
    return {id}
  end
end
--- include keys
--- include clock
--- include settings
--- include lanes
--- include due
--- include accept
local events = events_from(3, false)
local settings = look_up(events)
check(settings, events)
local ids, accepted = accept_all(settings, tonumber(ARGV[1]), events)
if ARGV[2] == '1' then count('enqueued', accepted) end
return ids
