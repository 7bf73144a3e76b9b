-- Changes settings of the queue: each name gets its value, '' takes it back to the default. Idle consumers are woken, so
-- that it holds from the next event on.
-- KEYS  1 main lane
-- ARGV  1 'merge', or 'same': only check that the settings named have these values  then name, value, name, value, ...
-- Returns the settings' text after the change; ELKMQ_SETTINGS_DIFFER names the first that differs, ELKMQ_BAD_SETTING one
-- that makes no sense.
--- include keys
--- include clock
--- include settings
--- include wake
local before = redis.call('GET', key('settings'))
local settings, numeric = settings_of(before) or {format = $FORMAT, lanes = {}}, {}
local served = settings.serve_elkmq01
for _, name in ipairs(NUMBERS) do numeric[name] = true end
for i = 2, #ARGV, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  if ARGV[1] == 'same' then
    local now = settings[name]
    if type(now) == 'number' then now = string.format('%.0f', now) end
    if (now or '') ~= value then fail('ELKMQ_SETTINGS_DIFFER ' .. name .. ' ' .. (now or '')) end
  else
    if name == 'format' or name == 'lanes' or string.find(name, '[^%w_]') then
      fail('ELKMQ_BAD_SETTING ' .. name .. ' cannot be set')
    end
    if numeric[name] and value ~= '' and not string.match(value, '^%d+$') then
      fail('ELKMQ_BAD_SETTING ' .. name .. ' is not a whole number')
    end
    settings[name] = value
  end
end
settings = settings_of(settings_text(settings))
if settings.serve_elkmq01 and settings.max_length then
  -- They take events out of their list without a trace here, so nobody could say how many are left.
  fail('ELKMQ_BAD_SETTING max_length does not go with serving consumers of elk-mq 0.1')
end
if #ARGV > 1 then in_use(settings, server_time()) end
if ARGV[1] ~= 'same' and settings_text(settings) ~= before then
  sure_of_wakes()
  redis.call('SET', key('settings'), settings_text(settings))
  if served and not settings.serve_elkmq01 and not ensure_group('0') then
    -- What they consumed meanwhile is history.
    local start, history = end_of_history(true)
    redis.call('XGROUP', 'SETID', main, 'elkmq', start)
    note_history(history, start)
  end
  signal()
end
return settings_text(settings)
