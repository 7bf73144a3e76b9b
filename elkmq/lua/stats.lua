-- Everything to be seen of a queue, in one look; changes nothing.
-- KEYS  1 main lane
-- Returns {server ms, settings' text or false, {lane, length, pending}..., ready, accepted, completed, delayed,
--   next due ms or -1, dead letters, outbox, log, counters (flat), consumers with their leases (flat), information (flat),
--   in flight by consumer {lane, name, pending}..., oldest ready ms or -1, responses kept, samples (see tend.lua)}
-- Cost grows with lanes, consumers and samples, not with depth or what is in flight.
--- include keys
--- include clock
--- include settings
--- include totals
local now, text = server_time(), redis.call('GET', key('settings'))
local settings = settings_of(text)
local lanes, held, oldest = {}, {}, -1
for _, lane in ipairs(lanes_of(settings)) do
  local length, pending, last = redis.call('XLEN', lane_key(lane)), 0, '0-0'
  local groups = redis.pcall('XINFO', 'GROUPS', lane_key(lane))
  if not groups.err then
    for _, group in ipairs(groups) do
      local g = pairs_of(group)
      if g.name == 'elkmq' then pending, last = g.pending, g['last-delivered-id'] end
    end
    local consumers = redis.pcall('XINFO', 'CONSUMERS', lane_key(lane), 'elkmq')
    if not consumers.err then
      for _, info in ipairs(consumers) do
        local c = pairs_of(info)
        if c.pending > 0 then held[#held + 1] = {lane, c.name, c.pending} end
      end
    end
  end
  -- What follows the last that was handed out, but for responses.
  for _, entry in ipairs(redis.call('XRANGE', lane_key(lane), id_after(last), '+', 'COUNT', 10)) do
    local t = pairs_of(entry[2])
    if t.event or not t.response then
      local since = tonumber(t.first) or id_time(entry[1])
      if oldest < 0 or since < oldest then oldest = since end
      break
    end
  end
  lanes[#lanes + 1] = {lane, length, pending}
end
local counters = redis.call('HGETALL', key('counters'))
local accepted, completed = totals(settings, pairs_of(counters))
local head = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
return {
  now, text, lanes, ready(settings), accepted, completed, redis.call('ZCARD', key('delayed')), tonumber(head[2]) or -1,
  redis.call('XLEN', key('dead_letters')), redis.call('XLEN', key('outbox')), redis.call('XLEN', key('event_log')), counters,
  redis.call('ZRANGE', key('consumers'), 0, -1, 'WITHSCORES'), redis.call('HGETALL', key('consumer_info')), held, oldest,
  redis.call('ZCARD', key('answered')), redis.call('LRANGE', key('rates'), 0, -1),
}
