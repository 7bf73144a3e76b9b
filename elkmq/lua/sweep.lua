-- Deletes queues whose time without use is over: nobody consumes them, and they were declared to go then.
-- KEYS  1 PREFIXelkmq(expiring)
-- ARGV  1 PREFIX  2 PREFIXelkmq  3 ms for which what is still sent to a deleted queue by its name is dropped
-- Returns the names of the queues deleted.
-- Cost with nothing to do: TIME, ZRANGEBYSCORE.
--- include keys
--- include drop
--- include routes
local now, dropped = server_time(), {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms(now), 'LIMIT', 0, 10)) do
  switch(ARGV[1] .. name .. '(event_stream)')
  local settings = read_settings()
  local last = redis.call('ZREVRANGE', key('consumers'), 0, 0, 'WITHSCORES')
  local used = math.max(tonumber(last[2]) or 0, tonumber(redis.call('HGET', key('counters'), 'used')) or 0)
  local keep = settings and settings.expires
  if not keep then
    redis.call('ZREM', KEYS[1], name)
  elseif used + keep > now then
    redis.call('ZADD', KEYS[1], ms(used + keep), name)
  else
    drop_queue(false, false)
    unbind_queue(ARGV[2], name)
    redis.call('ZREM', KEYS[1], name)
    redis.call('SET', key('settings'), 'format=1\ngone=1\n', 'PX', ARGV[3])
    dropped[#dropped + 1] = name
  end
end
return dropped
