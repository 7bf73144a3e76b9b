--- include keys
--- include history
-- Makes the lane's stream and group where they are missing (first use, FLUSHALL, an empty replica promoted): from id 0,
-- for what was enqueued before there was a group is work too, or from where the history of elk-mq 0.1 ends.
-- Returns whether it had to.
local function ensure_group(lane)
  local start, history = '0', 0
  if lane == '0' then start, history = end_of_history() end
  local made = redis.pcall('XGROUP', 'CREATE', lane_key(lane), 'elkmq', start, 'MKSTREAM')
  if type(made) == 'table' and made.err then
    if string.find(made.err, 'BUSYGROUP', 1, true) then return false end
    fail(made.err)
  end
  if lane == '0' then note_history(history, start) end
  return true
end

-- So that history is not taken for work: where there is no group yet, it is made, and its history noted.
local function sure_of_history()
  local groups = redis.pcall('XINFO', 'GROUPS', main)
  if groups.err or #groups == 0 then ensure_group('0') end
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

-- What is pending for a consumer in a lane, oldest first, `limit` at most; found through the consumer, so that it costs
-- the same whatever others hold.
local function pending_of(consumer, lane, limit)
  local pending = redis.pcall('XPENDING', lane_key(lane), 'elkmq', '-', '+', limit, consumer)
  if pending.err then
    if not string.find(pending.err, 'NOGROUP', 1, true) then fail(pending.err) end
    return {}
  end
  return pending
end

local function entry_of(lane, id)
  return redis.call('XRANGE', lane_key(lane), id, id)[1]
end

local function remove(lane, id)
  redis.call('XACK', lane_key(lane), 'elkmq', id)
  redis.call('XDEL', lane_key(lane), id)
end

-- A thousand at a time: Lua's unpack() gives up at 8,000.
local function delete_all(lane, ids)
  for i = 1, #ids, 1000 do
    redis.call('XDEL', lane_key(lane), unpack(ids, i, math.min(i + 999, #ids)))
  end
end

local function remove_all(lane, ids)
  for i = 1, #ids, 1000 do
    redis.call('XACK', lane_key(lane), 'elkmq', unpack(ids, i, math.min(i + 999, #ids)))
  end
  delete_all(lane, ids)
end

-- Never fails: counters that somebody made a key of another type are no reason to stop the work.
local function count(what, n)
  if n ~= 0 then redis.pcall('HINCRBY', key('counters'), what, n) end
end
