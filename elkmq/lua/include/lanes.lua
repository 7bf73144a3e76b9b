--- include wake
--- include settings
-- How urgent an entry in the list of consumers of elk-mq 0.1 is: its priority, or more than any where it comes back.
local function urgency(id)
  local found = redis.pcall('XRANGE', main, id, id)
  local entry = not found.err and found[1]
  local priority, back = 0, false
  for i = 1, entry and #entry[2] or 0, 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'priority' then priority = tonumber(value) or 0 end
    back = back or name == 'handed_out' or name == 'failed'
  end
  return back and 256 or priority
end

-- They read the list from its right end: what is urgent, or comes back, goes there, behind what is as urgent. Its cost grows
-- with how many of these wait, up to a thousand, and not with the list.
local function add_for_originals(lane, fields)
  if lane ~= '0' and lane ~= 'r' then
    fields[#fields + 1] = 'priority'
    fields[#fields + 1] = lane
  end
  local list, id = key('message_queue'), redis.call('XADD', main, '*', unpack(fields))
  if lane == '0' then
    redis.call('LPUSH', list, id)
    return id
  end
  if lane == 'r' then count('due', 1) end
  local own, ahead = lane == 'r' and 256 or tonumber(lane), {}
  while #ahead < 1000 do
    local other = redis.call('LINDEX', list, -1)
    if not other or not string.find(other, '^%d+%-%d+$') or urgency(other) < own then break end
    ahead[#ahead + 1] = redis.call('RPOP', list)
  end
  redis.call('RPUSH', list, id)
  for i = #ahead, 1, -1 do redis.call('RPUSH', list, ahead[i]) end
  return id
end

-- Adds an entry to the lane of a priority; a lane that is used for the first time joins the settings, and everybody is
-- woken to read it from now on. `settings` may be nil; returns the entry's id and the settings.
-- Consumers of elk-mq 0.1 know the main lane and the list of its entries' ids only: where they are served, everything
-- goes there.
local function add(settings, lane, fields)
  if settings and settings.serve_elkmq01 then return add_for_originals(lane, fields), settings end
  if lane ~= '0' and lane ~= 'r' then
    local known = false
    for _, priority in ipairs(settings and settings.lanes or {}) do known = known or priority == tonumber(lane) end
    if not known then
      settings = settings or {format = $FORMAT, lanes = {}}
      table.insert(settings.lanes, tonumber(lane))
      table.sort(settings.lanes, function(a, b) return a > b end)
      redis.call('SET', key('settings'), settings_text(settings))
      ensure_group(lane)
      wake_all()
    end
  end
  return redis.call('XADD', lane_key(lane), '*', unpack(fields)), settings
end

-- What add() is going to write.
local function sure_of_lane(settings, lane)
  sure('stream', main, lane_key(lane))
  if settings and settings.serve_elkmq01 then sure('list', key('message_queue')) end
  if lane ~= '0' and lane ~= 'r' then
    sure('string', key('settings'))
    sure_of_wakes()
  end
end

-- Entries of the main lane that are not work: responses that are kept for clients of elk-mq 0.1, and their history.
-- Never fails, as count() does not.
local function not_work()
  local kept, history = redis.pcall('ZCARD', key('answered')), redis.pcall('HGET', key('counters'), 'history')
  return (tonumber(kept) or 0) + (type(history) == 'string' and tonumber(history) or 0)
end

-- Ready entries: in a lane and handed to nobody. Consumers of elk-mq 0.1 leave a trace in their list only.
local function ready(settings)
  if settings and settings.serve_elkmq01 then return redis.call('LLEN', key('message_queue')) end
  local total = -not_work()
  for _, lane in ipairs(lanes_of(settings)) do
    total = total + redis.call('XLEN', lane_key(lane))
    local groups = redis.pcall('XINFO', 'GROUPS', lane_key(lane))
    if not groups.err then
      for _, group in ipairs(groups) do
        for i = 1, #group, 2 do
          if group[i] == 'pending' then total = total - group[i + 1] end
        end
      end
    end
  end
  return total
end
