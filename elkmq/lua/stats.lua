-- Everything to be seen of a queue, in one look.
-- KEYS  1 main lane
-- Returns {server ms, settings' text or false, {lane, length, pending, last delivered id, entries added or -1}..., delayed,
--   next due ms or -1, dead letters, outbox, log, counters (flat), consumers with their leases (flat), information (flat),
--   in flight by consumer {lane, name, pending}..., oldest ready id or '', responses kept, samples of the counters}
--- include keys
--- include clock
--- include settings
local now, text = server_time(), redis.call('GET', key('settings'))
local settings = settings_of(text)
local function pairs_of(flat)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end
local lanes, held, oldest = {}, {}, ''
for _, lane in ipairs(lanes_of(settings)) do
  local length, pending, last, added = redis.call('XLEN', lane_key(lane)), 0, '0-0', -1
  local groups = redis.pcall('XINFO', 'GROUPS', lane_key(lane))
  if not groups.err then
    for _, group in ipairs(groups) do
      local g = pairs_of(group)
      if g.name == 'elkmq' then pending, last = g.pending, g['last-delivered-id'] end
    end
    added = pairs_of(redis.call('XINFO', 'STREAM', lane_key(lane)))['entries-added'] or -1
    local consumers = redis.pcall('XINFO', 'CONSUMERS', lane_key(lane), 'elkmq')
    if not consumers.err then
      for _, info in ipairs(consumers) do
        local c = pairs_of(info)
        if c.pending > 0 then held[#held + 1] = {lane, c.name, c.pending} end
      end
    end
  end
  local time, sequence = string.match(last, '^(%d+)-(%d+)$')
  local following = redis.call('XRANGE', lane_key(lane), time .. '-' .. string.format('%.0f', tonumber(sequence) + 1), '+', 'COUNT', 1)[1]
  if following then
    local fields = pairs_of(following[2])
    local since = fields.first and fields.first .. '-0' or following[1]
    if fields.event and (oldest == '' or id_time(since) < id_time(oldest)) then oldest = since end
  end
  lanes[#lanes + 1] = {lane, length, pending, last, added}
end
local head = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
return {
  now, text, lanes, redis.call('ZCARD', key('delayed')), head[2] or '-1', redis.call('XLEN', key('dead_letters')),
  redis.call('XLEN', key('outbox')), redis.call('XLEN', key('event_log')), redis.call('HGETALL', key('counters')),
  redis.call('ZRANGE', key('consumers'), 0, -1, 'WITHSCORES'), redis.call('HGETALL', key('consumer_info')), held, oldest,
  redis.call('ZCARD', key('answered')),
}
