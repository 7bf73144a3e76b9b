--- include keys
--- include group
-- Wake tokens. One ends the blocking read of one idle consumer, which then takes, and so learns what changed. Its `wake`
-- says how many consumers it is for: the take removes it and passes the rest on. (Not a token for each: a blocking read
-- may be given many entries, and the first reader would get them all.) One that nobody was waiting for ends the next
-- blocking read that comes.
-- A token of `aside` is about entries that were set aside for a newer release (newer.lua): it ends when none is left.
local function wake(n, aside)
  if n <= 0 then return end
  if aside then
    redis.call('XADD', lane_key('w'), 'MAXLEN', 1000, '*', 'wake', n, 'aside', '1')
  else
    redis.call('XADD', lane_key('w'), 'MAXLEN', 1000, '*', 'wake', n)
  end
end

local function wake_all()
  wake(redis.call('ZCARD', key('consumers')))
end

-- Takes the tokens off a consumer's hands and passes on what is left of them; `used` is 1 where it was woken by them, 0
-- where it died before it could do anything.
local function pass_tokens(consumer, used)
  local left, aside = 0, 0
  for _, item in ipairs(pending_of(consumer, 'w', 1000)) do
    local token = entry_of('w', item[1])
    if token then
      local others = (tonumber(token[2][2]) or 1) - used
      if token[2][3] == 'aside' then aside = math.max(aside, others) else left = math.max(left, others) end
    end
    remove('w', item[1])
  end
  local all = redis.call('ZCARD', key('consumers'))
  wake(math.min(left, all))
  if aside > left and redis.call('EXISTS', key('newer_entries')) == 1 then wake(math.min(aside, all), true) end
end

-- Ends the waiting of consumers that are paused or stand by, whichever way they wait.
local function signal()
  wake_all()
  redis.call('XADD', key('signals'), 'MAXLEN', 1, '*', 'wake', '1')
end

-- What a change that consumers have to learn of is going to write.
local function sure_of_wakes()
  sure('stream', lane_key('w'), key('signals'))
  sure('zset', key('consumers'))
end
