--- include keys
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

-- The id after which work begins, and how many entries are history. Only a lane that begins with an entry of theirs has
-- any: it ends before the oldest entry in their list. (Should entries of ours lie among the newest all the same, since the
-- group was lost in a failover, it ends before those: to hand out something twice is better than never.)
-- `served`: consumers of elk-mq 0.1 were served, so entries of ours are no different from theirs.
local function end_of_history(served)
  local first = redis.call('XRANGE', main, '-', '+', 'COUNT', 1)[1]
  if not first or is_ours(first[2]) and not served then return '0', 0 end
  local length, waiting = redis.call('XLEN', main), tonumber(redis.pcall('LLEN', key('message_queue'))) or 0
  local start = redis.call('XREVRANGE', main, '+', '-', 'COUNT', 1)[1][1]
  if waiting > 0 then
    local oldest = redis.call('LINDEX', key('message_queue'), -1)
    if not string.find(oldest, '^%d+-%d+$') then return '0', 0 end
    start = id_before(oldest)
  end
  local from, seen, ours = '+', 0, not served
  while ours do
    ours = false
    local chunk = redis.call('XREVRANGE', main, from, '-', 'COUNT', 1000)
    for _, entry in ipairs(chunk) do
      seen, from = seen + 1, id_before(entry[1])
      if is_ours(entry[2]) then
        ours = true
        if seen > waiting then start, waiting = from, seen end
      end
    end
  end
  return start, math.max(0, length - waiting)
end

local function note_history(entries)
  if entries > 0 or redis.pcall('HEXISTS', key('counters'), 'history') == 1 then
    redis.pcall('HSET', key('counters'), 'history', entries)
  end
end
