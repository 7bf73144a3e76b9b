--- include wake
--- include settings
-- Adds an entry to the lane of a priority; a lane that is used for the first time joins the settings, and everybody is
-- woken to read it from now on. `settings` may be nil; returns the entry's id and the settings.
-- Consumers of elk-mq 0.1 know the main lane and the list of its entries' ids only: where they are served, everything
-- goes there, what is redelivered or urgent to the end of the list that they read from.
local function add(settings, lane, fields)
  if settings and settings.serve_elkmq01 then
    local id = redis.call('XADD', main, '*', unpack(fields))
    redis.call(lane == '0' and 'LPUSH' or 'RPUSH', key('message_queue'), id)
    if lane == 'r' then count('due', 1) end
    return id, settings
  end
  if lane ~= '0' and lane ~= 'r' then
    local known = false
    for _, priority in ipairs(settings and settings.lanes or {}) do known = known or priority == tonumber(lane) end
    if not known then
      settings = settings or {format = 1, lanes = {}}
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
