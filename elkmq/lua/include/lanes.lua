--- include wake
--- include settings
-- Adds an entry to the lane of a priority; a lane that is used for the first time joins the settings, and everybody is
-- woken to read it from now on. `settings` may be nil; returns the entry's id and the settings.
local function add(settings, lane, fields)
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

-- Ready entries: in a lane and handed to nobody.
local function ready(settings)
  local total = -(tonumber(redis.call('HGET', key('counters'), 'history')) or 0)
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
