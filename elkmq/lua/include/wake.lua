--- include keys
--- include group
-- Wake tokens. Each ends the blocking read of one idle consumer, which then takes, and so learns what changed; its take
-- removes the token. One that nobody was waiting for ends the next blocking read that comes.
local function wake(n)
  for _ = 1, n do redis.call('XADD', lane_key('w'), 'MAXLEN', 1000, '*', 'wake', '1') end
end

local function wake_all()
  wake(redis.call('ZCARD', key('consumers')))
end

-- Ends the waiting of consumers that are paused or stand by.
local function signal()
  redis.call('XADD', key('signals'), 'MAXLEN', 1, '*', 'wake', '1')
end
