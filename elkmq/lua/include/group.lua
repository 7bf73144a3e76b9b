--- include keys
local function count(what, n)
  if n ~= 0 then redis.call('HINCRBY', key('counters'), what, n) end
end

-- Where the group of a lane starts: at 0, for what was enqueued before there was a group is work too. But clients of
-- elk-mq 0.1 never delete an entry: of theirs (no field `v`) only those wait whose id is in their list. So where the main
-- lane begins with one of theirs, the group starts before the oldest id in the list; what is older is history.
local function group_start(lane)
  if lane ~= '0' then return '0', 0 end
  local first = redis.call('XRANGE', main, '-', '+', 'COUNT', 1)[1]
  if not first then return '0', 0 end
  for i = 1, #first[2], 2 do
    if first[2][i] == 'v' then return '0', 0 end
  end
  local waiting = redis.call('LLEN', key('message_queue'))
  if waiting == 0 then return '$', redis.call('XLEN', main) end
  local time, sequence = string.match(redis.call('LINDEX', key('message_queue'), -1), '^(%d+)-(%d+)$')
  if not time then return '0', 0 end
  local history = math.max(0, redis.call('XLEN', main) - waiting)
  if sequence ~= '0' then return time .. '-' .. string.format('%.0f', sequence - 1), history end
  return string.format('%.0f', time - 1) .. '-18446744073709551615', history
end

-- Makes the lane's stream and group where they are missing (first use, FLUSHALL, an empty replica promoted).
-- Returns whether it had to.
local function ensure_group(lane)
  local start, history = group_start(lane)
  local made = redis.pcall('XGROUP', 'CREATE', lane_key(lane), 'elkmq', start, 'MKSTREAM')
  if type(made) == 'table' and made.err then
    if string.find(made.err, 'BUSYGROUP', 1, true) then return false end
    fail(made.err)
  end
  count('history', history)
  return true
end

-- XREADGROUP of what nobody was handed yet; makes the group where it is missing. `noack` keeps no record of the owner.
local function read_new(lane, consumer, count, noack)
  local function read()
    if noack then
      return redis.pcall('XREADGROUP', 'GROUP', 'elkmq', consumer, 'COUNT', count, 'NOACK', 'STREAMS', lane_key(lane), '>')
    end
    return redis.pcall('XREADGROUP', 'GROUP', 'elkmq', consumer, 'COUNT', count, 'STREAMS', lane_key(lane), '>')
  end
  local reply = read()
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then fail(reply.err) end
    ensure_group(lane)
    reply = read()
    if type(reply) == 'table' and reply.err then fail(reply.err) end
  end
  if not reply then return {} end
  return reply[1][2]
end

local function remove(lane, id)
  redis.call('XACK', lane_key(lane), 'elkmq', id)
  redis.call('XDEL', lane_key(lane), id)
end
