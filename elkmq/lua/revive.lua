-- Sends dead letters back to work, as new entries with their counts at zero, keeping the event and its first time (on a
-- queue with a time to live the time starts again). A limit of the queue's length does not keep them out.
-- KEYS  1 main lane
-- ARGV  ids of dead letters
-- Returns for each the new id, or '' where there is none of that id.
--- include keys
--- include settings
--- include lanes
--- include fields
--- include group
local settings, ids, found, lanes = read_settings(), {}, {}, {}
sure('stream', key('dead_letters'))
sure_of_lane(settings, '0')
for i, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', key('dead_letters'), id, id)[1]
  if entry then
    local t = as_table(entry[2])
    found[i], lanes[i] = t, t.priority or '0'
    sure_of_lane(settings, lanes[i])
  end
end
for i, id in ipairs(ARGV) do
  local t = found[i]
  ids[i] = ''
  if t and redis.call('XDEL', key('dead_letters'), id) == 1 then
    for _, name in ipairs({'reason', 'died', 'entry', 'error', 'failed', 'handed_out', 'priority', 'ttl', 'due', 'reply_to'}) do
      t[name] = nil
    end
    if settings and settings.ttl then t.first = nil end
    ids[i], settings = add(settings, lanes[i], as_fields(t))
    count('revived', 1)
  end
end
return ids
