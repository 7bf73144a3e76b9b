--- include keys
--- include clock
--- include fields
--- include group
--- include legacy
-- Sends the response to a request to where its requester awaits it, if it still can.
--   t         the request's fields, nil where only its uuid is known (enqueue_response)
--   id        the request's entry id, nil likewise
--   uuid      hyphenated, lower case; timeout: the request's, in seconds; json: the response
-- A request of ours names an inbox (in its field or its dedupe mark). An event of ours with no inbox is awaited by nobody.
-- Anything else came from elk-mq 0.1 and is answered its way, kept for as long as its requester can wait.
-- The mark then says what was answered: a second response to the request is not sent, but answered as the first was.
-- Returns 'sent', 'late' or 'nobody', and the id of what was written.
local function send_response(t, id, uuid, timeout, json, now)
  if t and t.v and not t.reply_to then return 'nobody' end
  local mark_key = key('enqueued:' .. string.gsub(uuid, '-', ''))
  local mark = redis.call('GET', mark_key)
  local event, inbox, deadline, answered
  if mark then
    event, inbox, deadline, answered = string.match(mark, '^([^|]+)|([^|]*)|(%d*)|?(.*)$')
    if answered and answered ~= '' then return 'sent', answered end
  end
  deadline = tonumber(deadline)
  if t and t.reply_to then
    inbox, deadline = t.reply_to, deadline_of(t, id, nil)
  elseif mark and not inbox then
    return 'nobody'
  end
  if not inbox then deadline = (t and tonumber(t.first) or id and id_time(id) or now) + timeout * 1000 end
  if deadline and deadline <= now then return 'late' end
  local left = (deadline or now + timeout * 1000) - now + 1000
  local written
  if inbox then
    local inbox_key = key('replies:' .. inbox)
    sure('stream', inbox_key)
    written = redis.call('XADD', inbox_key, 'MAXLEN', '~', 100000, '*', 'response', json, 'uuid', uuid)
    if redis.call('PTTL', inbox_key) < left then redis.call('PEXPIRE', inbox_key, ms(left)) end
  else
    sure('stream', main, key('response_stream'))
    sure('zset', key('answered'))
    written = redis.call('XADD', main, '*', 'response', json)
    redis.call('XADD', key('response_stream'), '*', uuid, written)
    redis.call('ZADD', key('answered'), ms(deadline), written)
    count('responses', 1)
    sweep_responses(now) -- who only dequeues and answers, and never finds the queue empty, does no other chores
  end
  local value = (event or written) .. '|' .. (inbox or '') .. '|' .. (deadline and ms(deadline) or '') .. '|' .. written
  if mark then
    redis.call('SET', mark_key, value, 'KEEPTTL')
  else
    redis.call('SET', mark_key, value, 'PX', ms(left))
  end
  return 'sent', written
end
