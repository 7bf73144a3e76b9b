--- include owner
--- include requeue
--- include turn
-- The consumer's name leaves the groups; the caller has seen to it that nothing is pending for it.
local function forget(settings, consumer)
  for _, lane in ipairs(lanes_of(settings)) do
    redis.pcall('XGROUP', 'DELCONSUMER', lane_key(lane), 'elkmq', consumer)
  end
  redis.pcall('XGROUP', 'DELCONSUMER', lane_key('w'), 'elkmq', consumer)
end

-- Sends the deliveries of a consumer back, `limit` at most: those it had started before (see start.lua) and those that
-- nobody knows of count as failed. Returns how many, and whether any are left.
local function reclaim(settings, consumer, now, delivery_limit, limit)
  local moved = 0
  for _, lane in ipairs(lanes_of(settings)) do
    local pending = redis.pcall('XPENDING', lane_key(lane), 'elkmq', '-', '+', limit - moved, consumer)
    if not pending.err then
      for _, item in ipairs(pending) do
        local entry = redis.call('XRANGE', lane_key(lane), item[1], item[1])[1]
        local t = entry and as_table(entry[2])
        if not t or (t.response and not t.event) then
          redis.call('XACK', lane_key(lane), 'elkmq', item[1])
        else
          local suspect = not t.failed or item[4] > 1
          local _
          _, settings = send_back(settings, lane, item[1], entry[2], now, {
            failed = suspect and 1 or 0, seen = 1, limit = delivery_limit, text = 'its consumer ' .. consumer .. ' went away',
          })
        end
        moved = moved + 1
      end
      if moved >= limit then return moved, true, settings end
    end
  end
  forget(settings, consumer)
  return moved, false, settings
end

-- Takes over from consumers whose lease is over.
local function take_over(settings, now, delivery_limit, limit)
  local taken = 0
  for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', key('consumers'), '-inf', ms(now), 'LIMIT', 0, 10)) do
    local moved, more
    moved, more, settings = reclaim(settings, consumer, now, delivery_limit, limit - taken)
    taken = taken + moved
    if more then return taken, true, settings end
    redis.call('ZREM', key('consumers'), consumer)
    redis.call('HDEL', key('consumer_info'), consumer)
    pass_turn(consumer)
  end
  return taken, false, settings
end

-- A blocking read that was under way when its consumer was declared dead can be handed an entry after that: pending for
-- a consumer that nobody knows.
local function adopt_orphans(settings, now, delivery_limit)
  for _, lane in ipairs(lanes_of(settings)) do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', lane_key(lane), 'elkmq')
    if not consumers.err then
      for _, info in ipairs(consumers) do
        local name, pending
        for i = 1, #info, 2 do
          if info[i] == 'name' then name = info[i + 1] end
          if info[i] == 'pending' then pending = info[i + 1] end
        end
        if name ~= 'dequeue' and name ~= 'dropped' and not registered(name) then
          reclaim(settings, name, now, delivery_limit, 100)
        end
      end
    end
  end
end
