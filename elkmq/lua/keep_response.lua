-- A blocking read handed out a response between clients of elk-mq 0.1: it stays in the main lane, where its requester looks
-- for it, until nobody can be waiting for it any more.
-- KEYS  1 main lane
-- ARGV  1 id  2 response JSON
-- Returns 1 where a responder of elk-mq 0.1 wrote it, 0 where we did.
--- include keys
--- include legacy
return keep_response(ARGV[1], ARGV[2]) and 1 or 0
