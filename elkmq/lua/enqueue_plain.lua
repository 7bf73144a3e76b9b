-- Accepts plain events, as enqueue.lua does: no delay, main lane, no fields but the event, nobody awaits a response. Most
-- events are that, and two arguments each instead of nine are half the work of taking them in.
-- KEYS  1 main lane
-- ARGV  1 dedupe window, ms  then for each event: unique id, event JSON
-- Returns and errors as enqueue.lua. Cost of an event: MGET, XADD, SET.
-- A queue with no settings and events not seen before are served before the includes are even defined: the functions of
-- a script are made anew by each call.
local function accept_fresh()
  local prefix = string.sub(KEYS[1], 1, -15)
  local names, seen = {prefix .. '(settings)'}, {}
  prefix = prefix .. '(enqueued:'
  for i = 2, #ARGV, 2 do
    local unique = ARGV[i]
    if seen[unique] then return nil end
    seen[unique] = true
    names[i / 2 + 1] = prefix .. unique .. ')'
  end
  local found = redis.call('MGET', unpack(names))
  for j = 1, #names do
    if found[j] then return nil end
  end
  local ids, window = {}, ARGV[1]
  for j = 1, #names - 1 do
    local id = redis.call('XADD', KEYS[1], '*', 'event', ARGV[2 * j + 1], 'v', '$FORMAT')
    if window ~= '0' then redis.call('SET', names[j + 1], id, 'PX', window) end
    ids[j] = id
  end
  return ids
end
local fresh = accept_fresh()
if fresh then return fresh end
--- include keys
--- include clock
--- include settings
--- include lanes
--- include due
--- include accept
local events = {}
for i = 2, #ARGV, 2 do
  events[i / 2] = {unique = ARGV[i], delay = 0, priority = '0', inbox = '', fields = {'event', ARGV[i + 1], 'v', '$FORMAT'}}
end
local settings = look_up_one(events)
check(settings, events)
return (accept_all(settings, tonumber(ARGV[1]), events))
