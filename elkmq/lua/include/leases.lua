--- include keys
--- include clock
-- Leases say when a consumer was heard last. Two things make all of them wrong at once, and are mended here:
-- nobody was heard for a whole lease (the server was down, its clock leapt forward): everyone gets another lease, or a
-- restart would take their deliveries from consumers that are alive; and a lease ends later than it was ever granted
-- (the clock was set back): it is granted anew, or a dead consumer would keep its deliveries for as long.
-- A lease that was granted unasked ends at half a millisecond, and is not granted unasked again: where the only clients
-- left are such that hold no lease, the deliveries of the dead come back all the same.
local function lease_of(consumer)
  local info = redis.call('HGET', key('consumer_info'), consumer)
  return tonumber(string.match(info or '', '"lease": ?(%d+)')) or 30000
end

local function renew_all(now)
  for _, consumer in ipairs(redis.call('ZRANGE', key('consumers'), 0, -1)) do
    redis.call('ZADD', key('consumers'), ms(now + lease_of(consumer)) .. '.5', consumer)
  end
end

-- Returns whether anybody is registered.
local function mend_leases(now)
  local last = redis.call('ZREVRANGE', key('consumers'), 0, 0, 'WITHSCORES')
  if #last == 0 then return false end
  local ends = tonumber(last[2])
  if ends <= now and ends % 1 == 0 or ends > now + lease_of(last[1]) + 1000 then renew_all(now) end
  return true
end
