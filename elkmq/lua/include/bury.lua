--- include clock
--- include fields
--- include group
-- Gives an entry up: into the dead letters, with the reason, when it died and what was known of it. On a queue whose
-- dead letters go on to an exchange they go to the outbox, which a client empties. Counted once: as dead, or as dropped
-- where the queue keeps none.
local function bury(settings, lane, id, t, reason, text, now)
  t.first = t.first or ms(id_time(id))
  t.reason, t.died, t.entry = reason, ms(now), id
  if text and text ~= '' then t.error = text end
  if lane ~= '0' and lane ~= 'r' then t.priority = lane end
  if settings and settings.dead_letter_exchange then
    redis.call('XADD', key('outbox'), '*', 'exchange', settings.dead_letter_exchange, 'routing_key',
      settings.dead_letter_routing_key or '', unpack(as_fields(t)))
  elseif settings and settings.dead_letter_drop then
    count('dropped', 1)
    return
  elseif settings and settings.dead_letter_max then
    redis.call('XADD', key('dead_letters'), 'MAXLEN', settings.dead_letter_max, '*', unpack(as_fields(t)))
  else
    redis.call('XADD', key('dead_letters'), '*', unpack(as_fields(t)))
  end
  count('dead', 1)
end

-- What becomes of an entry whose time is over: counted and gone, or a dead letter where the queue asks for that.
local function expire(settings, lane, id, t, now)
  if settings and settings.dead_letter_expired then
    bury(settings, lane, id, t, 'expired', nil, now)
  else
    count('expired', 1)
  end
end

-- What bury() is going to write.
local function sure_of_graves(settings)
  sure('stream', key(settings and settings.dead_letter_exchange and 'outbox' or 'dead_letters'))
end
