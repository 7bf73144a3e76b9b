--- include keys
--- include clock
--- include fields
--- include group
--- include wake
-- Entries of a format that this release does not know, which a newer one wrote (docs/decisions/formats.md). They wait among
-- the dead letters, whole and whatever the queue does with other dead letters; a consumer that knows their format is
-- handed them with its next take.
local function is_newer(t)
  return t.v ~= nil and (tonumber(t.v) or math.huge) > $FORMAT
end

local function sure_of_newer()
  sure('stream', key('dead_letters'))
  sure('zset', key('newer_entries'))
  sure_of_wakes()
end

-- The caller has removed the entry, and says tell_newer() after the last.
local function set_aside(lane, id, t, now)
  t.first = t.first or ms(id_time(id))
  t.reason, t.died, t.entry = 'format', ms(now), id
  t.error = 'format ' .. t.v .. ', and this release knows $FORMAT: it is brought back by one that knows it'
  if lane ~= '0' and lane ~= 'r' then t.priority = lane end
  local letter = redis.call('XADD', key('dead_letters'), '*', unpack(as_fields(t)))
  redis.call('ZADD', key('newer_entries'), tonumber(t.v) or '+inf', letter)
  count('dead', 1)
end

-- Wakes consumers one after another until one has been handed what was set aside.
local function tell_newer()
  wake(redis.call('ZCARD', key('consumers')), true)
end
