-- Changes settings of the queue: each name of the JSON object gets its value, null takes it back to the default. Idle
-- consumers are woken, so that it holds from the next event on.
-- KEYS  1 main lane
-- ARGV  1 changes as JSON  2 'merge', or 'same': only check that the settings named have these values
-- Returns the settings as JSON after the change; ELKMQ_SETTINGS_DIFFER names the first that differs.
--- include keys
--- include settings
--- include wake
local settings = read_settings() or {format = 1}
for name, value in pairs(cjson.decode(ARGV[1])) do
  if value == cjson.null then value = nil end
  if ARGV[2] == 'same' then
    local now = settings[name]
    local same = now == value
    if type(now) == 'table' and type(value) == 'table' then
      same = true
      for k, v in pairs(now) do same = same and value[k] == v end
      for k, v in pairs(value) do same = same and now[k] == v end
    end
    if not same then fail('ELKMQ_SETTINGS_DIFFER ' .. name) end
  else
    settings[name] = value
  end
end
local text = cjson.encode(settings)
if ARGV[2] ~= 'same' then
  redis.call('SET', key('settings'), text)
  wake_all()
  signal()
end
return text
