--- include group
--- include clock
-- Responses of clients of elk-mq 0.1, and to them: a `response` entry of the main lane is kept until nobody can be waiting
-- for it. (Their list of ids: list.lua.)
local function response_timeout(text)
  return math.min(tonumber(string.match(text, '"timeout": ?(%d+)')) or 65535, 65535)
end

-- Notes when a response can go. Of ours that is known already, and so is the entry in response_stream that points to it.
-- Returns whether it is an original's, which nobody had noted: originals answer requests on this queue.
-- Never fails: should another program own NAME(answered), a response stays, and the work goes on.
local function keep_response(id, text)
  redis.call('XACK', main, 'elkmq', id)
  local ends = ms(id_time(id) + response_timeout(text) * 1000)
  local added = redis.pcall('ZADD', key('answered'), 'NX', ends, id)
  if added == 1 then count('responses', 1) end
  return added == 1
end

local function is_response(t)
  return t.response and not t.event
end

-- Removes responses that nobody waits for any more, then pointers to responses that are gone.
local function sweep_responses(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('answered'), '-inf', ms(now), 'LIMIT', 0, 100)) do
    redis.call('XDEL', main, id)
    redis.call('ZREM', key('answered'), id)
  end
  if redis.call('XLEN', key('response_stream')) == 0 then return end
  for _, pointer in ipairs(redis.call('XRANGE', key('response_stream'), '-', '+', 'COUNT', 100)) do
    local response = redis.pcall('XRANGE', main, pointer[2][2], pointer[2][2])
    if not response.err and #response > 0 then break end
    redis.call('XDEL', key('response_stream'), pointer[1])
  end
  if redis.call('XLEN', key('response_stream')) == 0 then redis.call('UNLINK', key('response_stream')) end
end
