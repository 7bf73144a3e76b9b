-- Accepts events, each once: an event whose unique id was accepted within the window is answered as it was then.
-- All or none: a batch that the queue has no room for is refused whole.
-- KEYS  1 main lane
-- ARGV  1 dedupe window, ms
--       then for each event: unique id, delay ms, priority, inbox ('' = none), n, n strings: field, value, ...
--       or, of a lone request with nothing special: unique id, inbox, its JSON, ms to live
-- Returns for each event its id, with '=' before it where it had been accepted before. A request is asked anew once its
-- time is over, and joins itself (no '=') where the same client asks again before.
-- '+' before that where the queue serves consumers of elk-mq 0.1: no consumer of ours may be there to do the chores.
-- '!' before the first where it made room on a queue whose dead letters go to an exchange: they wait in the outbox to be sent on.
-- '~' for each where the queue was deleted a while ago and takes nothing (queue_delete.lua).
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT, ELKMQ_WRONG_KEY, ELKMQ_TOO_MANY_FIELDS.
-- Cost of a plain event: MGET, XADD, SET.
-- On a queue without settings such a request is served before the includes are even defined: the functions of a script are
-- made anew by each call.
local ARGV = ARGV
if #ARGV == 5 then
  local window, unique, inbox, json, ttl = unpack(ARGV)
  local base = string.sub(KEYS[1], 1, -15)
  local mark = base .. '(enqueued:' .. unique .. ')'
  local found = redis.call('MGET', base .. '(settings)', mark)
  if not found[1] and not found[2] then
    local id = redis.call('XADD', KEYS[1], '*', 'event', json, 'v', '$FORMAT', 'ttl', ttl, 'reply_to', inbox)
    local value = string.format('%s|%s|%.0f', id, inbox, string.match(id, '^%d+') + ttl)
    redis.call('SET', mark, value, 'PX', ttl - window > 0 and ttl or window)
    return {id}
  end
  ARGV = {window, unique, '0', '0', inbox, '8', 'event', json, 'v', '$FORMAT', 'ttl', ttl, 'reply_to', inbox}
end
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
local settings = look_up_one(events)
check(settings, events)
return (accept_all(settings, tonumber(ARGV[1]), events))
