--- include keys
-- The queue's settings: a string of lines NAME=VALUE (a newline or % in a value is %XX), absent where all are defaults,
-- which is the fast path. Plain text because both languages read it in a line, and a person in redis-cli as well.
-- A format newer than this release's stops the script before it changes anything.
local function settings_of(text)
  if not text then return nil end
  local settings = {}
  for name, value in string.gmatch(text, '([%w_]+)=([^\n]*)') do
    settings[name] = string.gsub(value, '%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end)
  end
  for _, name in ipairs({
    'format', 'max_length', 'ttl', 'delivery_limit', 'retention_count', 'retention_ms', 'dead_letter_max', 'expires',
  }) do settings[name] = tonumber(settings[name]) end
  local lanes = {}
  for priority in string.gmatch(settings.lanes or '', '%d+') do lanes[#lanes + 1] = tonumber(priority) end
  settings.lanes = lanes
  if settings.format and settings.format > 1 then
    fail('ELKMQ_FORMAT the queue has format ' .. settings.format .. ', this release knows 1')
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
