--- include keys
-- Makes the lane's stream and group where they are missing (first use, FLUSHALL, an empty replica promoted).
-- From id 0: what was enqueued before there was a group is work too. Returns whether it had to.
local function ensure_group(lane)
  local made = redis.pcall('XGROUP', 'CREATE', lane_key(lane), 'elkmq', '0', 'MKSTREAM')
  if type(made) == 'table' and made.err then
    if string.find(made.err, 'BUSYGROUP', 1, true) then return false end
    fail(made.err)
  end
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

local function count(what, n)
  if n ~= 0 then redis.call('HINCRBY', key('counters'), what, n) end
end
