-- Sends a response to a request that is known by its event only (it was dequeued, so nothing is pending).
-- KEYS  1 main lane
-- ARGV  1 request's uuid, hyphenated  2 its timeout, s  3 response JSON  4 server ms at which it was accepted, '' = unknown
-- Returns {'sent' | 'late' | 'nobody', id or server ms}.
-- A request is answered once: again, it answers as the first time.
-- Cost for a request of ours: TIME, GET x2, TYPE, XADD, PTTL, PEXPIRE, SET.
--- include keys
--- include clock
--- include settings
--- include respond
local now = server_time()
read_settings()
local asked = ARGV[4] ~= '' and ARGV[4] .. '-0' or nil
local state, id = send_response(nil, asked, ARGV[1], tonumber(ARGV[2]), ARGV[3], now)
return {state, id or ms(now) .. '-0'}
