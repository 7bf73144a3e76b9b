--- include keys
--- include settings
--- include lanes
local function pairs_of(flat)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end

-- How many events were accepted and completed since the queue is there. From 7.0 on the server counts what is added to a
-- stream, so that enqueueing and settling need not; before that they count. What was accepted is what was added to the
-- lanes, but for what was there before (it was put off, or was a dead letter) and for responses and history of clients of
-- elk-mq 0.1; and what was put off. Each accepted event is in the queue (alive) or left it in one of these ways:
--   accepted + revived = alive + completed + expired + dead + dropped + purged
local function totals(settings, counters)
  local function n(name) return tonumber(counters[name]) or 0 end
  local alive = redis.call('ZCARD', key('delayed')) - not_work()
  local added, counted_here = 0, false
  for _, lane in ipairs(lanes_of(settings)) do
    alive = alive + redis.call('XLEN', lane_key(lane))
    if lane ~= 'r' then
      local stream = redis.pcall('XINFO', 'STREAM', lane_key(lane))
      if not stream.err then
        local more = pairs_of(stream)['entries-added']
        added = added + (more or 0)
        counted_here = counted_here or not more
      end
    end
  end
  local accepted = added - n('due') - n('revived') - n('responses') - n('history') + n('delayed')
  if counted_here then accepted = n('enqueued') end
  local gone = n('expired') + n('dead') + n('dropped') + n('purged')
  return accepted, accepted + n('revived') - alive - gone
end
