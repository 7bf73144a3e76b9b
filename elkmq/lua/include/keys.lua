-- The Lua twin of elkmq/keys.py (a test compares the two): every key of the queue whose main lane is KEYS[1].
-- The keys are derived, not passed: lanes are data, a command stays short, and all of them are in the slot of KEYS[1].
local main, base

-- Makes another queue the one that key() and lane_key() speak of; returns the main lane of the one before.
local function switch(to)
  local before = main
  main, base = to, string.sub(to, 1, -15)
  return before
end

switch(KEYS[1])

local function key(ending)
  return base .. '(' .. ending .. ')'
end

-- A lane is named by its priority, '0' being the main lane, or 'r' for the lane of redelivered entries; 'w' is the stream
-- of wake tokens, which is read with the lanes.
local function lane_key(lane)
  if lane == '0' then return main end
  if lane == 'r' then return key('event_stream:redelivered') end
  if lane == 'w' then return key('wake') end
  return key('event_stream:' .. lane)
end

-- Stops the script with an error by name; a table as the error would reach the client of Redis 6 as no text at all.
local function fail(message)
  error(message, 0)
end

-- Stops the script where a key is there and of another type: what is going to be written is looked at before the first
-- write, so that nothing is half done. (Counters are the exception: see count() in group.lua.)
local looked_at = {}
local function sure(kind, ...)
  for _, name in ipairs({...}) do
    if not looked_at[name] then
      local found = redis.call('TYPE', name).ok
      if found ~= kind and found ~= 'none' then
        fail('ELKMQ_WRONG_KEY ' .. name .. ' is of type ' .. found .. ', not ' .. kind)
      end
      looked_at[name] = true
    end
  end
end

-- A server whose memory is full refuses a script's commands that could take more, but only until the script has written
-- something: with a removal first it lets through what consumers need to go on, and so to make room.
local function even_when_full()
  redis.call('ZREM', key('consumers'), '')
end
