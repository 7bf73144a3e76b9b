-- What queues need though nobody consumes them: those that nobody used for as long as they were declared to last are
-- deleted; in those whose dead letters go on to an exchange, what has expired at the head goes on.
-- KEYS  1 PREFIXelkmq(expiring)  2 PREFIXelkmq(unattended)
-- ARGV  1 PREFIX  2 PREFIXelkmq  3 ms for which what is still sent to a deleted queue by its name is dropped
-- Returns {names of the queues deleted, names of queues with something in their outbox, ms until to look again, -1 = nothing
--   is unattended}.
-- Cost with nothing to do: TIME, ZRANGEBYSCORE, SMEMBERS.
--- include keys
--- include clock
--- include settings
--- include lanes
--- include bury
--- include drop
--- include routes
local now, dropped, dead, again = server_time(), {}, {}, -1
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms(now), 'LIMIT', 0, 10)) do
  switch(ARGV[1] .. name .. '(event_stream)')
  local settings = read_settings()
  local last = redis.call('ZREVRANGE', key('consumers'), 0, 0, 'WITHSCORES')
  local used = #last > 0 and tonumber(last[2]) or 0
  local keep = settings and settings.expires
  if not keep then
    redis.call('ZREM', KEYS[1], name)
  elseif used + keep > now then
    redis.call('ZADD', KEYS[1], ms(used + keep), name)
  else
    drop_queue(false, false)
    unbind_queue(ARGV[2], name)
    redis.call('ZREM', KEYS[1], name)
    redis.call('SREM', KEYS[2], name)
    redis.call('SET', key('settings'), 'format=$FORMAT\ngone=1\n', 'PX', ARGV[3])
    dropped[#dropped + 1] = name
  end
end

-- The ready entries at the head of a lane, `limit` at most.
local function head_of(lane, limit)
  local groups = redis.pcall('XINFO', 'GROUPS', lane_key(lane))
  if groups.err then return {} end
  local from = '-'
  for _, group in ipairs(groups) do
    for i = 1, #group, 2 do
      if group[i] == 'last-delivered-id' then
        local time, sequence = string.match(group[i + 1], '^(%d+)-(%d+)$')
        from = time .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
      end
    end
  end
  return redis.call('XRANGE', lane_key(lane), from, '+', 'COUNT', limit)
end

for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  switch(ARGV[1] .. name .. '(event_stream)')
  local settings = read_settings()
  if not (settings and settings.dead_letter_exchange) then
    redis.call('SREM', KEYS[2], name)
  else
    if again < 0 then again = 1000 end
    for _, lane in ipairs(lanes_of(settings)) do
      for _, entry in ipairs(head_of(lane, 100)) do
        local t = as_table(entry[2])
        local ends = deadline_of(t, entry[1], settings)
        if not ends then break end
        if ends > now then
          again = math.min(again, ends - now)
          break
        end
        expire(settings, lane, entry[1], t, now)
        redis.call('XDEL', lane_key(lane), entry[1])
      end
    end
    if redis.call('XLEN', key('outbox')) > 0 then dead[#dead + 1] = name end
  end
end
return {dropped, dead, again}
