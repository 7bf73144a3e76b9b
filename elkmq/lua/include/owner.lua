--- include keys
-- Whether this consumer is registered: its lease was not declared over.
local function registered(consumer)
  return redis.call('ZSCORE', key('consumers'), consumer)
end

local function require_registered(consumer)
  if not registered(consumer) then
    fail('ELKMQ_CONSUMER_GONE the lease of ' .. consumer .. ' is over')
  end
end

-- Who holds the delivery: 'mine'; 'done', where this very consumer completed it before (its reply was lost and it asks
-- again); 'lost' otherwise. A consumer that is registered still owns all it was handed, so what is gone it completed
-- itself; an entry that is there but not pending for it was handed out anew after a failover.
local function ownership(consumer, lane, id)
  if #redis.call('XPENDING', lane_key(lane), 'elkmq', id, id, 1, consumer) > 0 then return 'mine' end
  if registered(consumer) and #redis.call('XRANGE', lane_key(lane), id, id) == 0 then return 'done' end
  return 'lost'
end
