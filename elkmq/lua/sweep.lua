-- What queues need though nobody consumes them: those that nobody used for as long as they were declared to last are
-- deleted; in those whose dead letters go on to an exchange, what has expired at the head goes on.
-- KEYS  1 PREFIXelkmq(expiring)  2 PREFIXelkmq(unattended)
-- ARGV  1 PREFIX  2 PREFIXelkmq  3 ms for which what is still sent to a deleted queue by its name is dropped
-- Returns {names of the queues deleted, names of queues with something in their outbox, ms until to look again, -1 = no
--   hurry}. On a Cluster sweep_due.lua and sweep_queue.lua do it.
-- Cost with nothing to do: TIME, ZRANGEBYSCORE, SMEMBERS.
--- include keys
--- include clock
--- include settings
--- include unused
--- include unattended
--- include routes
local now, dropped, dead, again = server_time(), {}, {}, -1
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms(now), 'LIMIT', 0, 10)
if #due == 10 then again = 0 end
for _, name in ipairs(due) do
  switch(ARGV[1] .. name .. '(event_stream)')
  local gone, at = drop_unused(read_settings(), now, ARGV[3])
  if at then
    redis.call('ZADD', KEYS[1], ms(at), name)
  else
    redis.call('ZREM', KEYS[1], name)
  end
  if gone then
    unbind_queue(ARGV[2], name)
    redis.call('SREM', KEYS[2], name)
    dropped[#dropped + 1] = name
  end
end
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  switch(ARGV[1] .. name .. '(event_stream)')
  local settings = read_settings()
  if not (settings and settings.dead_letter_exchange) then
    redis.call('SREM', KEYS[2], name)
  else
    again = math.min(again < 0 and 1000 or again, pass_expired(settings, now))
    if redis.call('XLEN', key('outbox')) > 0 then dead[#dead + 1] = name end
  end
end
return {dropped, dead, again}
