--- include group
--- include clock
--- include fields
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

-- Of another lane, it is nobody's response: a consumer finds that it is no event.
local function is_response(t, lane)
  return lane == '0' and t.response and not t.event
end

-- Removes responses that nobody waits for any more, each with the entry in response_stream that points to it: that was added
-- right after it. An original adds it a while later, and what originals answered before we came is noted nowhere; what points
-- to those goes once it is the oldest.
local function sweep_responses(now)
  local pointers = key('response_stream')
  local left = redis.call('XLEN', pointers)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('answered'), '-inf', ms(now), 'LIMIT', 0, 100)) do
    redis.call('XDEL', main, id)
    redis.call('ZREM', key('answered'), id)
    for _, pointer in ipairs(left > 0 and redis.call('XRANGE', pointers, ms(id_time(id)), '+', 'COUNT', 10) or {}) do
      if pointer[2][2] == id then redis.call('XDEL', pointers, pointer[1]) end
    end
  end
  if left == 0 then return end
  for _, pointer in ipairs(redis.call('XRANGE', pointers, '-', '+', 'COUNT', 100)) do
    local found = redis.pcall('XRANGE', main, pointer[2][2], pointer[2][2])
    local entry = not found.err and found[1]
    local text = entry and as_table(entry[2]).response
    if text and id_time(entry[1]) + response_timeout(text) * 1000 > now then break end
    redis.call('XDEL', pointers, pointer[1])
  end
  if redis.call('XLEN', pointers) == 0 then redis.call('UNLINK', pointers) end
end
