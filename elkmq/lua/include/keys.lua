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
