--- include keys
--- include group
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
-- itself; an entry that is there but not pending for it was handed out anew after a failover. No group: the queue was
-- deleted (FLUSHALL, an empty replica promoted) and nobody holds anything.
local function ownership(consumer, lane, id)
  local pending = redis.pcall('XPENDING', lane_key(lane), 'elkmq', id, id, 1, consumer)
  if pending.err then
    if not string.find(pending.err, 'NOGROUP', 1, true) then fail(pending.err) end
    return 'lost'
  end
  if #pending > 0 then return 'mine' end
  if registered(consumer) and #redis.call('XRANGE', lane_key(lane), id, id) == 0 then return 'done' end
  return 'lost'
end

-- The same of many deliveries in a lane, given in the order in which they were handed out: id -> outcome. One look at
-- the range from the first to the last finds them all where nothing else of the consumer's lies between.
local function ownerships(consumer, lane, ids)
  local outcomes = {}
  if #ids > 1 then
    local found = redis.pcall('XPENDING', lane_key(lane), 'elkmq', ids[1], ids[#ids], #ids, consumer)
    if not found.err then
      for _, item in ipairs(found) do outcomes[item[1]] = 'mine' end
    end
  end
  for _, id in ipairs(ids) do
    if not outcomes[id] then outcomes[id] = ownership(consumer, lane, id) end
  end
  return outcomes
end

-- The deliveries named by ARGV[from] and on, lane, id, lane, id, ...: a list of {lane, id, outcome}, all looked at before
-- the script changes the first, and lane -> ids.
local function deliveries(consumer, from)
  local list, lanes = {}, {}
  for i = from, #ARGV, 2 do
    local lane, id = ARGV[i], ARGV[i + 1]
    list[#list + 1] = {lane, id}
    if not lanes[lane] then lanes[lane] = {} end
    table.insert(lanes[lane], id)
  end
  for lane, ids in pairs(lanes) do
    local outcomes = ownerships(consumer, lane, ids)
    for _, delivery in ipairs(list) do
      if delivery[1] == lane then
        delivery[3] = outcomes[delivery[2]]
        -- Named twice, it is settled once.
        if delivery[3] == 'mine' then outcomes[delivery[2]] = 'done' end
      end
    end
  end
  return list, lanes
end
