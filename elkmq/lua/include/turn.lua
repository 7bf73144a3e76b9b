--- include owner
--- include wake
--- include settings
-- Whether this consumer is served: not on a paused queue, and on a single-active-consumer queue only the active one,
-- which is the first to ask after the last one went (as in RabbitMQ: it stays active until it goes).
local function turn_of(settings, consumer)
  if not settings then return '' end
  if settings.paused then return 'paused' end
  if settings.single_active then
    local active = redis.call('GET', key('active_consumer'))
    if active and active ~= consumer and registered(active) then return 'standby' end
    if active ~= consumer then
      even_when_full()
      redis.call('SET', key('active_consumer'), consumer)
    end
  end
  return ''
end

-- The last signal, so that a consumer waits for the next one without missing any in between.
local function last_signal()
  local last = redis.call('XREVRANGE', key('signals'), '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

-- A consumer is gone: its turn is over.
local function pass_turn(consumer)
  if redis.call('GET', key('active_consumer')) == consumer then
    redis.call('DEL', key('active_consumer'))
    signal()
  end
end

-- Milliseconds until something has to be done though nobody enqueues: an entry is due, or (asked only by a consumer
-- that is about to wait) a lease ends, or an original may have finished its enqueue.
local function next_event(now, due, idle)
  local at = due
  if idle then
    local first = redis.call('ZRANGE', key('consumers'), 0, 0, 'WITHSCORES')
    if #first > 0 and (not at or tonumber(first[2]) < at) then at = tonumber(first[2]) end
    local look = next_look(now)
    if look and (not at or look < at) then at = look end
  end
  if not at then return -1 end
  return math.max(0, math.ceil(at - now))
end
