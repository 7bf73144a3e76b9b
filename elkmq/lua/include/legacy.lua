--- include group
--- include clock
-- What clients of elk-mq 0.1 leave behind. Their list of ids means nothing to our consumers and is removed, unless the
-- queue serves original consumers. A `response` entry of the main lane is kept until nobody can be waiting for it.
local function drop_list(settings)
  if not (settings and settings.serve_elkmq01) then redis.call('UNLINK', key('message_queue')) end
end

local function keep_response(id, timeout)
  redis.call('XACK', main, 'elkmq', id)
  redis.call('ZADD', key('answered'), 'NX', ms(id_time(id) + timeout * 1000), id)
end

local function response_timeout(text)
  return math.min(tonumber(string.match(text, '"timeout":(%d+)')) or 65535, 65535)
end

-- Removes responses that nobody waits for any more, then pointers to responses that are gone.
local function sweep_responses(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('answered'), '-inf', ms(now), 'LIMIT', 0, 100)) do
    redis.call('XDEL', main, id)
    redis.call('ZREM', key('answered'), id)
  end
  for _, pointer in ipairs(redis.call('XRANGE', key('response_stream'), '-', '+', 'COUNT', 100)) do
    if #redis.call('XRANGE', main, pointer[2][2], pointer[2][2]) > 0 then break end
    redis.call('XDEL', key('response_stream'), pointer[1])
  end
  if redis.call('XLEN', key('response_stream')) == 0 then redis.call('UNLINK', key('response_stream')) end
end
