--- include lanes
--- include clock
--- include fields
-- Moves delayed entries whose time has come into their lane, `limit` at most. An element of the delayed set is
-- cmsgpack {sequence number, lane, first time, fields}. Returns when the next one is due, nil where there is none.
local function move_due(settings, now, limit)
  local head = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
  if #head == 0 then return nil, settings end
  if tonumber(head[2]) > now then return tonumber(head[2]), settings end
  local due = redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', ms(now), 'LIMIT', 0, limit)
  local first_time = 0
  for _, packed in ipairs(due) do
    local item = cmsgpack.unpack(packed)
    local fields, lane = item[4], item[2]
    fields[#fields + 1] = 'first'
    fields[#fields + 1] = item[3]
    local _
    _, settings = add(settings, lane, fields)
    if lane ~= 'r' then first_time = first_time + 1 end
    redis.call('ZREM', key('delayed'), packed)
  end
  count('due', first_time)
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
