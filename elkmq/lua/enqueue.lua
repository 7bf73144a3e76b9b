-- Accepts events, each once: an event whose unique id was accepted within the window is answered as it was then.
-- All or none: a batch that the queue has no room for is refused whole.
-- KEYS  1 main lane
-- ARGV  1 dedupe window, ms  2 1 = count here (server older than 7.0)
--       then for each event: unique id, delay ms, priority, inbox ('' = none), n, n strings: field, value, ...
-- Returns for each event its id, with '=' before it where it had been accepted before. A request is asked anew once its
-- time is over, and joins itself (no '=') where the same client asks again before.
-- '~' for each where the queue was deleted a while ago and takes nothing (queue_delete.lua).
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT.
-- Cost of a plain event: MGET, XADD, SET.
--- include keys
--- include clock
--- include settings
--- include lanes
--- include due
--- include accept
local window, counting = tonumber(ARGV[1]), ARGV[2] == '1'
local ids, accepted, i = {}, 0, 3
local first = redis.call('MGET', key('settings'), key('enqueued:' .. ARGV[3]))
local settings, mark = settings_of(first[1]), first[2]
if settings and settings.max_length and settings.overflow ~= 'drop_oldest' then
  check_room(settings, function() return fresh_events(3) end)
end
if settings and settings.gone then
  while i <= #ARGV do
    ids[#ids + 1] = '~'
    i = i + 5 + tonumber(ARGV[i + 4])
  end
  return ids
end
while i <= #ARGV do
  local unique, n = ARGV[i], tonumber(ARGV[i + 4])
  if i > 3 then mark = redis.call('GET', key('enqueued:' .. unique)) end
  local asked = mark and ARGV[i + 3] ~= '' and asked_before(mark, ARGV[i + 3])
  if asked == 'waiting' then
    ids[#ids + 1] = string.match(mark, '^[^|]+')
  elseif mark and asked ~= 'over' then
    ids[#ids + 1] = '=' .. string.match(mark, '^[^|]+')
  else
    local id
    id, settings = accept(settings, window, unique, tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], i + 5, n)
    ids[#ids + 1] = id
    accepted = accepted + 1
  end
  i = i + 5 + n
end
if counting then count('enqueued', accepted) end
if settings and settings.max_length and settings.overflow == 'drop_oldest' then drop_oldest(settings) end
return ids
