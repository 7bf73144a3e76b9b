--- include lanes
--- include due
--- include bury
-- Takes one event in. Its fields are ARGV[from] and the following n - 1.
local function accept(settings, window, unique, delay, priority, inbox, from, n)
  local fields = {}
  for j = 0, n - 1 do fields[j + 1] = ARGV[from + j] end
  local id
  if delay > 0 then
    local now = server_time()
    put_off(priority, fields, ms(now), now + delay)
    count('delayed', 1)
    id = ms(now) .. '-0'
  elseif priority == '0' then
    id = redis.call('XADD', main, '*', unpack(fields))
    if settings and settings.serve_elkmq01 then redis.call('LPUSH', key('message_queue'), id) end
  else
    id, settings = add(settings, priority, fields)
  end
  if unique ~= '' then
    local keep, value = window, id
    if inbox ~= '' then
      local ttl = tonumber(as_table(fields).ttl) or 0
      keep = math.max(keep, ttl + delay)
      value = id .. '|' .. inbox .. '|' .. ms(id_time(id) + ttl)
    end
    if keep > 0 then redis.call('SET', key('enqueued:' .. unique), value, 'PX', ms(keep)) end
  end
  return id, settings
end

-- A request whose mark is there: 'waiting' where the same client still waits for its response, 'over' where its time is
-- over, false where somebody else enqueued the event.
local function asked_before(mark, inbox)
  local by, ends = string.match(mark, '^[^|]+|([^|]+)|(%d+)$')
  if not by then return false end
  if tonumber(ends) <= server_time() then return 'over' end
  return by == inbox and 'waiting'
end

-- How many of the script's events are not known yet; `from` is the index of the first one's unique id.
local function fresh_events(from)
  local fresh, seen = 0, {}
  while from <= #ARGV do
    local unique = ARGV[from]
    if unique == '' or not (seen[unique] or redis.call('GET', key('enqueued:' .. unique))) then fresh = fresh + 1 end
    seen[unique] = true
    from = from + 5 + tonumber(ARGV[from + 4])
  end
  return fresh
end

local function check_room(settings, fresh)
  local coming = fresh()
  if coming > 0 and ready(settings) + coming > settings.max_length then
    fail('ELKMQ_QUEUE_FULL the queue holds its ' .. string.format('%d', settings.max_length) .. ' events')
  end
end

-- Makes room by dropping what is oldest, least urgent lanes last to be read first to go.
local function drop_oldest(settings)
  local over = ready(settings) - settings.max_length
  local lanes, now = lanes_of(settings), server_time()
  for k = #lanes, 1, -1 do
    if over <= 0 then return end
    local entries = read_new(lanes[k], 'dropped', math.min(over, 1000), true)
    for _, entry in ipairs(entries) do
      local t = as_table(entry[2])
      if t.event then
        if settings.dead_letter_exchange then
          bury(settings, lanes[k], entry[1], t, 'maxlen', nil, now)
        end
        count('dropped', 1)
      end
      redis.call('XDEL', lane_key(lanes[k]), entry[1])
    end
    over = over - #entries
  end
end
