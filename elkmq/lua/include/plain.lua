-- Plain events (no delay, main lane) and requests for a queue whose settings have no say: most of what there is. They
-- are served here, before the other includes are even defined: the functions of a script are made anew by each call.
-- Returns their ids, or nil with nothing changed where the rest of enqueue.lua has to look.
local function accept_plain()
  local prefix = string.sub(KEYS[1], 1, -15)
  local names, at, seen, i = {prefix .. '(settings)'}, {}, {}, 2
  prefix = prefix .. '(enqueued:'
  while i <= #ARGV do
    local unique = ARGV[i]
    if ARGV[i + 1] ~= '0' or ARGV[i + 2] ~= '0' or seen[unique] then return nil end
    if ARGV[i + 3] ~= '' and ARGV[i + 9] ~= 'ttl' then return nil end
    seen[unique] = true
    at[#at + 1] = i
    names[#names + 1] = prefix .. unique .. ')'
    i = i + 5 + ARGV[i + 4]
  end
  if #names > 1000 or #ARGV > 6000 then return nil end
  local found = redis.call('MGET', unpack(names))
  -- Settings that say nothing about accepting (a declared queue's, priorities in use) are no hindrance.
  local text = found[1]
  if text then
    if not string.find(text, 'format=$FORMAT\n', 1, true) then return nil end
    for _, name in ipairs({'max_length=', 'gone=', 'serve_elkmq01='}) do
      if string.find(text, name, 1, true) then return nil end
    end
    if string.find(text, 'declared=', 1, true) and string.find(text, 'ttl=', 1, true) then return nil end -- shorter marks
  end
  for j = 2, #names do
    if found[j] then return nil end
  end
  local ids, window = {}, ARGV[1]
  for j, from in ipairs(at) do
    local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, from + 5, from + 4 + ARGV[from + 4]))
    local value, keep = id, window
    if ARGV[from + 3] ~= '' then
      local ttl = ARGV[from + 10]
      value = id .. '|' .. ARGV[from + 3] .. '|' .. string.format('%.0f', string.match(id, '^%d+') + ttl)
      if ttl + 0 > window + 0 then keep = ttl end
    end
    if keep ~= '0' and ARGV[from] ~= '' then redis.call('SET', names[j + 1], value, 'PX', keep) end
    ids[j] = id
  end
  return ids
end
