--- include lanes
--- include clock
--- include fields
--- include bury
-- Moves delayed entries whose time has come into their lane, `limit` at most. An element of the delayed set is
-- cmsgpack {sequence number, lane, first time, fields}. Returns when the next one is due, nil where there is none.
-- Each is removed first, which a server with its memory full allows, and with that the rest.
local function move_due(settings, now, limit)
  local head = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
  if #head == 0 then return nil, settings end
  if tonumber(head[2]) > now then return tonumber(head[2]), settings end
  local due = redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', ms(now), 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #due, 2 do
    local packed = due[i]
    local known, item = pcall(cmsgpack.unpack, packed)
    known = known and type(item) == 'table' and type(item[4]) == 'table'
    if known then
      local fields, lane = item[4], item[2]
      fields[#fields + 1] = 'first'
      fields[#fields + 1] = item[3]
      if settings and settings.ttl then
        fields[#fields + 1] = 'due'
        fields[#fields + 1] = ms(tonumber(due[i + 1]))
      end
      local _
      sure_of_lane(settings, lane)
      redis.call('ZREM', key('delayed'), packed)
      _, settings = add(settings, lane, fields)
      if lane ~= 'r' then count('due', 1) end
    else
      sure_of_graves(settings)
      redis.call('ZREM', key('delayed'), packed)
      bury(settings, '0', ms(now) .. '-0', {event = packed}, 'unreadable', 'not an element of a delayed set', now)
    end
  end
  head = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
  return tonumber(head[2]), settings
end

-- Puts an entry off until `due`. A consumer is woken where this is now the first that is due: it tells its heart.
local function put_off(lane, fields, first, due)
  local sequence = redis.call('HINCRBY', key('counters'), 'sequence', 1)
  local packed = cmsgpack.pack({sequence, lane, first, fields})
  redis.call('ZADD', key('delayed'), ms(due), packed)
  if redis.call('ZRANGE', key('delayed'), 0, 0)[1] == packed and redis.call('ZCARD', key('consumers')) > 0 then wake(1) end
end

-- What put_off() is going to write.
local function sure_of_delay()
  sure('hash', key('counters'))
  sure('zset', key('delayed'), key('consumers'))
  sure('stream', lane_key('w'))
end
