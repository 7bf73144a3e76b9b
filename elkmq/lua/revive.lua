-- Sends dead letters back to work, as new entries with their counts at zero, keeping the event and its first time.
-- KEYS  1 main lane
-- ARGV  ids of dead letters
-- Returns for each the new id, or '' where there is none of that id.
--- include keys
--- include settings
--- include lanes
--- include fields
--- include group
local settings, ids, revived = read_settings(), {}, 0
for i = 1, #ARGV do
  local entry = redis.call('XRANGE', key('dead_letters'), ARGV[i], ARGV[i])[1]
  if entry then
    local t = as_table(entry[2])
    local priority = t.priority or '0'
    for _, name in ipairs({'reason', 'died', 'entry', 'error', 'failed', 'handed_out', 'priority', 'ttl', 'reply_to'}) do t[name] = nil end
    ids[i], settings = add(settings, priority, as_fields(t))
    redis.call('XDEL', key('dead_letters'), ARGV[i])
    revived = revived + 1
  else
    ids[i] = ''
  end
end
count('revived', revived)
return ids
