--- include owner
--- include requeue
--- include turn
-- The consumer's name leaves the queue; the caller has seen to it that nothing is pending for it.
local function forget(settings, consumer, now)
  pass_tokens(consumer, 0)
  for _, lane in ipairs(lanes_of(settings)) do
    redis.pcall('XGROUP', 'DELCONSUMER', lane_key(lane), 'elkmq', consumer)
  end
  redis.pcall('XGROUP', 'DELCONSUMER', lane_key('w'), 'elkmq', consumer)
  redis.call('ZREM', key('consumers'), consumer)
  redis.call('HDEL', key('consumer_info'), consumer)
  pass_turn(consumer)
  in_use(settings, now)
end

-- What it takes to let a consumer go.
local function sure_of_farewell(settings)
  sure_of_return(settings)
  sure_of_wakes()
  sure('hash', key('consumer_info'))
  sure('string', key('active_consumer'))
end

-- Sends what is pending for a consumer back, `limit` entries at most; `how` says of a delivery whether it failed and was
-- seen. Returns how many, and whether any may be left.
local function send_all_back(settings, consumer, now, limit, how)
  local moved = 0
  for _, lane in ipairs(lanes_of(settings)) do
    for _, item in ipairs(pending_of(consumer, lane, limit - moved)) do
      local entry = entry_of(lane, item[1])
      if entry then
        local options = how(as_table(entry[2]), item[4] > 1)
        local _
        _, settings = send_back(settings, lane, item[1], entry[2], now, options)
      else
        redis.call('XACK', lane_key(lane), 'elkmq', item[1])
      end
      moved = moved + 1
    end
    if moved >= limit then return moved, true, settings end
  end
  return moved, false, settings
end

-- Takes the deliveries of a consumer that died: those that it had started (see start.lua), and those that nobody knows of
-- since they never failed before, count as failed.
local function reclaim(settings, consumer, now, delivery_limit, limit)
  local moved, more
  moved, more, settings = send_all_back(settings, consumer, now, limit, function(t, started)
    local suspect = not t.failed or started
    return {
      failed = suspect and 1 or 0, seen = 1, limit = delivery_limit, text = 'its consumer ' .. consumer .. ' went away',
    }
  end)
  if not more then forget(settings, consumer, now) end
  return moved, more, settings
end

-- Takes over from consumers whose lease is over. Returns how many deliveries, and whether there is more to do.
local function take_over(settings, now, delivery_limit, limit)
  local taken = 0
  local over = redis.call('ZRANGEBYSCORE', key('consumers'), '-inf', ms(now), 'LIMIT', 0, 10)
  if #over > 0 then sure_of_farewell(settings) end
  for _, consumer in ipairs(over) do
    local moved, more
    moved, more, settings = reclaim(settings, consumer, now, delivery_limit, limit - taken)
    taken = taken + moved
    if more then return taken, true, settings end
  end
  return taken, #over == 10, settings
end

-- A blocking read that was under way when its consumer was declared dead can be handed an entry after that: pending for
-- a consumer that nobody knows. Returns whether there is more to do.
local function adopt_orphans(settings, now, delivery_limit)
  local found_more = false
  for _, lane in ipairs(lanes_of(settings)) do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', lane_key(lane), 'elkmq')
    if not consumers.err then
      for _, info in ipairs(consumers) do
        local name
        for i = 1, #info, 2 do
          if info[i] == 'name' then name = info[i + 1] end
        end
        if name ~= 'dequeue' and name ~= 'dropped' and not registered(name) then
          sure_of_farewell(settings)
          local _, more
          _, more, settings = reclaim(settings, name, now, delivery_limit, 100)
          found_more = found_more or more
        end
      end
    end
  end
  return found_more, settings
end
