-- Changes settings of the queue: each name gets its value, '' takes it back to the default. Idle consumers are woken, so
-- that it holds from the next event on.
-- KEYS  1 main lane
-- ARGV  1 'merge', or 'same': only check that the settings named have these values  then name, value, name, value, ...
-- Returns the settings' text after the change; ELKMQ_SETTINGS_DIFFER names the first that differs.
--- include keys
--- include settings
--- include wake
local before = redis.call('GET', key('settings'))
local settings = settings_of(before) or {format = 1, lanes = {}}
for i = 2, #ARGV, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  if ARGV[1] == 'same' then
    local now = settings[name]
    if type(now) == 'number' then now = string.format('%.0f', now) end
    if (now or '') ~= value then fail('ELKMQ_SETTINGS_DIFFER ' .. name .. ' ' .. (now or '')) end
  else
    settings[name] = value
  end
end
settings = settings_of(settings_text(settings))
if ARGV[1] ~= 'same' and settings_text(settings) ~= before then
  redis.call('SET', key('settings'), settings_text(settings))
  signal()
end
return settings_text(settings)
