--- include keys
--- include clock
--- include fields
-- Sends the response to a request to where its requester awaits it, if it still can.
--   t         the request's fields, nil where only its uuid is known (enqueue_response)
--   id        the request's entry id, nil likewise
--   uuid      hyphenated, lower case; timeout: the request's, in seconds; json: the response
-- A request of ours names an inbox (in its field or its dedupe mark). An event of ours with no inbox is awaited by nobody.
-- Anything else came from elk-mq 0.1 and is answered its way, kept for as long as its requester can wait.
-- Returns 'sent', 'late' or 'nobody', and the id of what was written.
local function send_response(t, id, uuid, timeout, json, now)
  local inbox, deadline = t and t.reply_to, nil
  if t and t.v and not inbox then return 'nobody' end
  if inbox then
    deadline = deadline_of(t, id, nil)
  else
    local mark = redis.call('GET', key('enqueued:' .. string.gsub(uuid, '-', '')))
    if mark then
      local ends
      inbox, ends = string.match(mark, '^[^|]+|([^|]+)|(%d+)$')
      if not inbox then return 'nobody' end
      deadline = tonumber(ends)
    end
  end
  if inbox then
    if deadline and deadline <= now then return 'late' end
    local inbox_key = key('replies:' .. inbox)
    local written = redis.call('XADD', inbox_key, 'MAXLEN', '~', 100000, '*', 'response', json, 'uuid', uuid)
    local left = (deadline or now + timeout * 1000) - now + 1000
    if redis.call('PTTL', inbox_key) < left then redis.call('PEXPIRE', inbox_key, ms(left)) end
    return 'sent', written
  end
  local asked = t and tonumber(t.first) or id and id_time(id) or now
  deadline = asked + timeout * 1000
  if deadline <= now then return 'late' end
  local written = redis.call('XADD', main, '*', 'response', json)
  redis.call('XADD', key('response_stream'), '*', uuid, written)
  redis.call('ZADD', key('answered'), ms(deadline), written)
  return 'sent', written
end
