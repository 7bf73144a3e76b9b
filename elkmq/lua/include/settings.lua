--- include keys
-- The queue's settings, decoded; nil where it has none, which is the fast path.
-- A format newer than this release's stops the script before it changes anything.
local function settings_of(text)
  if not text then return nil end
  local settings = cjson.decode(text)
  if (settings.format or 1) > 1 then
    fail('ELKMQ_FORMAT the queue has format ' .. settings.format .. ', this release knows 1')
  end
  return settings
end

local function read_settings()
  return settings_of(redis.call('GET', key('settings')))
end

-- The lanes in the order in which they are read.
local function lanes_of(settings)
  local lanes = {'r'}
  if settings and settings.lanes then
    for _, priority in ipairs(settings.lanes) do lanes[#lanes + 1] = string.format('%d', priority) end
  end
  lanes[#lanes + 1] = '0'
  return lanes
end
