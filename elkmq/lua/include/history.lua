--- include keys
--- include clock
-- Clients of elk-mq 0.1 never delete an entry from the main lane: of theirs (no field `v`) only those wait whose ids are in
-- their list, and what is older is history. History is never handed out, and not counted as work.
local function is_ours(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'v' then return true end
  end
  return false
end

local function id_before(id)
  local time, sequence = string.match(id, '^(%d+)-(%d+)$')
  if #sequence > 15 then return time .. '-999999999999999' end
  if sequence ~= '0' then return time .. '-' .. string.format('%.0f', sequence - 1) end
  return string.format('%.0f', time - 1) .. '-18446744073709551615'
end

local function id_after(id)
  local time, sequence = string.match(id, '^(%d+)-(%d+)$')
  if #sequence > 15 then return string.format('%.0f', time + 1) .. '-0' end
  return time .. '-' .. string.format('%.0f', sequence + 1)
end

local function is_older(a, b)
  local time_a, sequence_a = string.match(a, '^(%d+)-(%d+)$')
  local time_b, sequence_b = string.match(b, '^(%d+)-(%d+)$')
  time_a, time_b = tonumber(time_a), tonumber(time_b)
  return time_a < time_b or time_a == time_b and tonumber(sequence_a) < tonumber(sequence_b)
end

-- The oldest id in their list whose entry is there; a list may hold anything. Nil where none of a thousand is such an id:
-- then all is history, and what is work after all comes by its id (list.lua).
local function oldest_listed(length)
  for i = 1, math.min(length, 1000) do
    local id = redis.call('LINDEX', key('message_queue'), -i)
    local found = string.find(id, '^%d+%-%d+$') and redis.pcall('XRANGE', main, id, id) or {}
    if not found.err and #found > 0 then return found[1][1] end
  end
  return nil
end

-- The id after which work begins, and how many entries are history. Only a lane that begins with an entry of theirs has
-- any: it ends before the oldest entry in their list. An original whose entry is in the lane already and whose id is on its
-- way to the list is heard of later: what of history comes to the list is work after all (list.lua). (Should entries of ours lie among the newest all the same, since the
-- group was lost in a failover, it ends before those: to hand out something twice is better than never.)
-- `served`: consumers of elk-mq 0.1 were served, so entries of ours are no different from theirs.
local function end_of_history(served)
  local first = redis.call('XRANGE', main, '-', '+', 'COUNT', 1)[1]
  if not first or is_ours(first[2]) and not served then return '0', 0 end
  local waiting = tonumber(redis.pcall('LLEN', key('message_queue'))) or 0
  local start = redis.call('XREVRANGE', main, '+', '-', 'COUNT', 1)[1][1]
  if waiting > 0 then
    local oldest = oldest_listed(waiting)
    if oldest then start = id_before(oldest) else waiting = 0 end
  end
  local from, look, mixed = '+', not served, false
  while look do
    look = false
    for _, entry in ipairs(redis.call('XREVRANGE', main, from, '-', 'COUNT', 1000)) do
      from = id_before(entry[1])
      if is_ours(entry[2]) then
        look, mixed = true, true
        if is_older(from, start) then start = from end
      end
    end
  end
  if mixed or waiting <= 10000 then
    -- Beyond that an entry whose id is on its way makes the number wrong by one; to look at all would take too long.
    waiting, from = 0, start
    repeat
      local chunk = redis.call('XRANGE', main, id_after(from), '+', 'COUNT', 1000)
      waiting = waiting + #chunk
      if #chunk > 0 then from = chunk[#chunk][1] end
    until #chunk < 1000
  end
  return start, math.max(0, redis.call('XLEN', main) - waiting)
end

local function note_history(entries, ends)
  if entries > 0 then
    local time, sequence = string.match(ends, '^(%d+)-(%d+)$')
    redis.pcall('HSET', key('counters'), 'history', entries, 'history_ms', time, 'history_seq', sequence)
  elseif redis.pcall('HEXISTS', key('counters'), 'history') == 1 then
    redis.pcall('HDEL', key('counters'), 'history', 'history_ms', 'history_seq')
  end
end

-- The last id of history; nil where there is none.
local function end_of_noted_history()
  local noted = redis.pcall('HMGET', key('counters'), 'history_ms', 'history_seq')
  return noted[1] and noted[2] and noted[1] .. '-' .. noted[2] or nil
end

-- When to look whether an entry of history comes to the list after all: at double the age of the newest one, so that what
-- takes an original long is not waited for much longer; nil: it is older than any of that takes.
local function next_look(now)
  local ends = end_of_noted_history()
  local age = ends and now - id_time(ends) or -1
  if age < 0 or age > 10000 then return nil end
  return now + math.max(20, age)
end
