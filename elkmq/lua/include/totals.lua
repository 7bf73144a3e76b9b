--- include keys
--- include settings
--- include lanes
local function pairs_of(flat)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end

-- How many events were accepted and completed since the queue is there. Each accepted event is in the queue (alive) or left
-- it in one of these ways:
--   accepted + revived = alive + completed + expired + dead + dropped + purged
-- From 7.0 on the server counts what is added to a stream, so nobody else has to count: what was accepted is what was added
-- to the lanes, but for what was there before (it was put off, or was a dead letter) and for responses and history of
-- clients of elk-mq 0.1; and what was put off. Before 7.0 completions are counted (settle, complete, dequeue).
local function totals(settings, counters)
  local function n(name) return tonumber(counters[name]) or 0 end
  local alive = redis.call('ZCARD', key('delayed')) - not_work()
  local added, older = 0, false
  for _, lane in ipairs(lanes_of(settings)) do
    alive = alive + redis.call('XLEN', lane_key(lane))
    if lane ~= 'r' then
      local stream = redis.pcall('XINFO', 'STREAM', lane_key(lane))
      if not stream.err then
        local ever = pairs_of(stream)['entries-added']
        added = added + (ever or 0)
        older = older or not ever
      end
    end
  end
  local gone = n('expired') + n('dead') + n('dropped') + n('purged')
  if older then return n('completed') + alive + gone - n('revived'), n('completed') end
  local accepted = added - n('due') - n('revived') - n('responses') - n('history') + n('delayed')
  return accepted, accepted + n('revived') - alive - gone
end
