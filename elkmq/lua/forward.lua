-- A responder of elk-mq 0.1 answered a request of ours: its response goes to the requester's inbox, once, and the responder's
-- two entries leave the queue, as does the request's own, which nobody else would remove.
-- KEYS  1 main lane
-- ARGV  1 request's uuid, hyphenated  2 id in response_stream  3 id of the response in the main lane
--       4 1 = count here (server older than 7.0)
-- Returns 'sent', 'late', or 'nobody' where it is no request of ours: then nothing changed.
-- Cost: XRANGE, TIME, GET x2, TYPE, XADD, PTTL, PEXPIRE, SET, XDEL x3, HINCRBY.
--- include keys
--- include clock
--- include settings
--- include fields
--- include group
--- include legacy
--- include respond
read_settings()
local found = redis.pcall('XRANGE', main, ARGV[3], ARGV[3])
local entry = not found.err and found[1]
local response = entry and as_table(entry[2]).response
local mark = redis.call('GET', key('enqueued:' .. string.gsub(ARGV[1], '-', '')))
local request = mark and string.match(mark, '^([^|]+)|[^|]+|')
if not response or not request then return 'nobody' end
local state = send_response(nil, nil, ARGV[1], response_timeout(response), response, server_time())
redis.call('XDEL', key('response_stream'), ARGV[2])
redis.call('XDEL', main, ARGV[3])
if redis.call('XDEL', main, request) == 1 and ARGV[4] == '1' then count('completed', 1) end
count('responses', 1)
return state
