--- include keys
-- The queue's settings: a string of lines NAME=VALUE (a newline or % in a value is %XX), absent where all are defaults,
-- which is the fast path. Plain text because both languages read it in a line, and a person in redis-cli as well.
-- A format newer than this release's stops the script before it changes anything.
local NUMBERS = {
  'format', 'max_length', 'ttl', 'delivery_limit', 'retention_count', 'retention_ms', 'dead_letter_max', 'expires',
  'auto_delete_after',
}
local FLAGS = {'paused', 'single_active', 'serve_elkmq01', 'dead_letter_expired', 'dead_letter_drop'}

local function settings_of(text)
  if not text then return nil end
  local settings = {}
  for name, value in string.gmatch(text, '([%w_]+)=([^\n]*)') do
    settings[name] = string.gsub(value, '%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end)
  end
  for _, name in ipairs(NUMBERS) do settings[name] = tonumber(settings[name]) end
  for _, name in ipairs(FLAGS) do
    if settings[name] == '0' then settings[name] = nil end
  end
  local lanes = {}
  for priority in string.gmatch(settings.lanes or '', '%d+') do lanes[#lanes + 1] = tonumber(priority) end
  settings.lanes = lanes
  if settings.format and settings.format > $FORMAT then
    fail('ELKMQ_FORMAT the queue has format ' .. settings.format .. ', this release knows $FORMAT')
  end
  return settings
end

local function settings_text(settings)
  local lines = {}
  for name, value in pairs(settings) do
    if name == 'lanes' then value = table.concat(value, ',') end
    if type(value) == 'number' then value = string.format('%.0f', value) end
    if value ~= '' then
      value = string.gsub(value, '[%%\n\r]', function(c) return string.format('%%%02X', string.byte(c)) end)
      lines[#lines + 1] = name .. '=' .. value .. '\n'
    end
  end
  table.sort(lines)
  return table.concat(lines)
end

local function read_settings()
  return settings_of(redis.call('GET', key('settings')))
end

-- The lanes in the order in which they are read.
local function lanes_of(settings)
  local lanes = {'r'}
  for _, priority in ipairs(settings and settings.lanes or {}) do lanes[#lanes + 1] = string.format('%d', priority) end
  lanes[#lanes + 1] = '0'
  return lanes
end

local function sure_of_lanes(settings)
  for _, lane in ipairs(lanes_of(settings)) do sure('stream', lane_key(lane)) end
end

-- Notes when the queue was in use last, on one that is to go when it is not (see drop.lua).
local function in_use(settings, now)
  if settings and settings.expires then redis.pcall('HSET', key('counters'), 'used', string.format('%.0f', now)) end
end
