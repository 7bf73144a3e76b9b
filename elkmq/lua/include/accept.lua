--- include lanes
--- include due
--- include bury
--- include legacy
-- The events among the arguments, from ARGV[from] on: unique id, delay ms, priority, inbox, n, n strings; with `indexed`
-- each comes after the index of its queue in KEYS.
local function events_from(from, indexed)
  local events = {}
  while from <= #ARGV do
    local event = {}
    if indexed then
      event.queue = tonumber(ARGV[from])
      from = from + 1
    end
    event.unique, event.delay, event.priority, event.inbox = ARGV[from], tonumber(ARGV[from + 1]), ARGV[from + 2], ARGV[from + 3]
    local n, fields = tonumber(ARGV[from + 4]), {}
    if n > MOST_VALUES then fail('ELKMQ_TOO_MANY_FIELDS an event has ' .. ARGV[from + 4] .. ' values') end
    for j = 1, n do fields[j] = ARGV[from + 4 + j] end
    event.fields = fields
    events[#events + 1] = event
    from = from + 5 + n
  end
  return events
end

-- A request whose mark is there: 'waiting' where the same client asked and its time is not over, 'over' where it is, false
-- where somebody else enqueued the event.
local function asked_before(mark, inbox)
  local by, ends = string.match(mark, '^[^|]+|([^|]+)|(%d*)')
  if inbox == '' or not by then return false end
  if ends ~= '' and tonumber(ends) <= server_time() then return 'over' end
  return by == inbox and 'waiting'
end

-- Notes what is to be read before a queue's events are accepted: the settings of the queue that key() speaks of and, for each
-- event, the mark it left where it was accepted before. look_up() reads it, of many queues at once.
local function note_names(names, of, queue)
  names[#names + 1], of[#of + 1] = key('settings'), queue
  for _, event in ipairs(queue.events) do
    names[#names + 1], of[#of + 1] = key('enqueued:' .. event.unique), event
  end
end

-- Of a wrong type MGET says nothing: such a mark is none and is written over.
local function look_up(names, of)
  for start = 0, #names - 1, 1000 do
    for j, found in ipairs(redis.call('MGET', unpack(names, start + 1, math.min(start + 1000, #names)))) do
      local event = of[start + j]
      if event.events then
        event.settings = settings_of(found)
      elseif found then
        local asked = asked_before(found, event.inbox)
        event.mark, event.waiting = asked ~= 'over' and found, asked == 'waiting'
      end
    end
  end
end

local function look_up_one(events)
  local names, of, queue = {}, {}, {events = events}
  note_names(names, of, queue)
  look_up(names, of)
  return queue.settings
end

-- Looks at everything that accepting the events will write, before the first write. Plain events go to one stream, which
-- says itself if it is none.
local function check(settings, events)
  local fresh, seen, special, max_length = 0, {}, false, settings and settings.max_length
  if settings and settings.gone then return end
  for _, event in ipairs(events) do
    if not event.mark and not seen[event.unique] then
      fresh = fresh + 1
      if event.unique ~= '' then seen[event.unique] = true end
      if event.delay > 0 then
        sure_of_delay()
        special = true
      elseif event.priority ~= '0' then
        sure_of_lane(settings, event.priority)
        special = true
      end
    end
  end
  if special or settings and settings.serve_elkmq01 then sure_of_lane(settings, '0') end
  if not max_length or fresh == 0 then return end
  sure_of_lanes(settings)
  sure_of_history()
  if settings.overflow == 'drop_oldest' then
    sure_of_graves(settings)
  elseif ready(settings) + redis.call('ZCARD', key('delayed')) + fresh > max_length then
    fail('ELKMQ_QUEUE_FULL the queue holds its ' .. string.format('%.0f', max_length) .. ' events')
  end
end

-- A queue that is some reader's own, where messages live for seconds: Celery's events, a copy for each worker. There marks
-- would be half of what a publish costs and most of what it leaves; the reader itself finds out whom it was handed before.
local function read_once(settings)
  local ttl = settings and settings.declared and settings.auto_delete and settings.ttl
  return ttl and ttl <= 10000 and not settings.dead_letter_exchange
end

-- Takes one event in. Returns its id, and the settings, which a new lane changes.
local function accept(settings, window, event)
  local id
  if event.unique ~= '' and event.delay == 0 and event.inbox == '' and read_once(settings) then
    local fields = event.fields
    if not as_table(fields).unique then
      fields[#fields + 1], fields[#fields + 2] = 'unique', event.unique
    end
    return add(settings, event.priority, fields)
  end
  if event.delay > 0 then
    local now = server_time()
    put_off(event.priority, event.fields, ms(now), now + event.delay)
    count('delayed', 1)
    id = ms(now) .. '-0'
  else
    id, settings = add(settings, event.priority, event.fields)
  end
  if event.unique ~= '' then
    local keep, value = window, id
    if event.inbox ~= '' then
      local ttl = tonumber(as_table(event.fields).ttl)
      keep = math.max(keep, (ttl or 0) + event.delay)
      value = id .. '|' .. event.inbox .. '|' .. (ttl and ms(id_time(id) + ttl) or '')
    end
    if keep > 0 then redis.call('SET', key('enqueued:' .. event.unique), value, 'PX', ms(keep)) end
  end
  return id, settings
end

-- Makes room by dropping what is oldest, from the lane that is read last to the one that is read first. Returns whether something
-- stands in the outbox for it.
local function drop_oldest(settings)
  local over, relay = ready(settings) - settings.max_length, false
  local lanes, now = lanes_of(settings), server_time()
  for k = #lanes, 1, -1 do
    while over > 0 do
      local asked = math.min(over, 1000)
      local entries, ids = read_new(lanes[k], 'dropped', asked, true), {}
      for _, entry in ipairs(entries) do
        local t = as_table(entry[2])
        if is_response(t, lanes[k]) then
          keep_response(entry[1], t.response)
        else
          ids[#ids + 1] = entry[1]
        end
      end
      delete_all(lanes[k], ids)
      if settings.dead_letter_exchange then
        for _, entry in ipairs(entries) do
          local t = as_table(entry[2])
          if not is_response(t, lanes[k]) then
            bury(settings, lanes[k], entry[1], t, 'maxlen', nil, now)
            relay = true
          end
        end
      else
        count('dropped', #ids)
      end
      over = over - #ids
      if #entries < asked then break end
    end
  end
  return relay
end

-- Takes in the events that were not accepted before. Returns their ids in the order of `events` as enqueue.lua says.
local function accept_all(settings, window, events)
  local ids, accepted, known = {}, 0, {}
  local served = settings and settings.serve_elkmq01 and '+' or ''
  if settings and settings.declared and settings.ttl then
    -- Where messages live for seconds (Celery's events, a copy for each worker), marks that last for minutes would be most of
    -- what there is.
    window = math.min(window, math.max(2 * settings.ttl, window / 12))
  end
  if served ~= '' then
    -- There may be no consumer of ours to do it.
    local _
    _, settings = move_due(settings, server_time(), 100)
  end
  for i, event in ipairs(events) do
    local before = event.mark and string.match(event.mark, '^[^|]+') or known[event.unique]
    if settings and settings.gone then
      ids[i] = '~'
    elseif before then
      ids[i] = served .. (event.waiting and '' or '=') .. before
    else
      local id
      id, settings = accept(settings, window, event)
      ids[i] = served .. id
      accepted = accepted + 1
      if event.unique ~= '' then known[event.unique] = id end
    end
  end
  if accepted > 0 and settings and settings.max_length and settings.overflow == 'drop_oldest' and drop_oldest(settings) then
    ids[1] = '!' .. ids[1]
  end
  return ids
end

-- The events of each queue, by its index in KEYS; everything is looked at and nothing written. Those of index 0 are left.
local function by_queue(events)
  local queues, before = {}, main
  for _, event in ipairs(events) do
    local index = event.queue
    if index > 0 then
      if not queues[index] then queues[index] = {events = {}} end
      table.insert(queues[index].events, event)
    end
  end
  local names, of = {}, {}
  for index, queue in pairs(queues) do
    switch(KEYS[index])
    note_names(names, of, queue)
  end
  look_up(names, of)
  for index, queue in pairs(queues) do
    switch(KEYS[index])
    check(queue.settings, queue.events)
  end
  switch(before)
  return queues
end

-- Takes in the events of several queues. Returns the ids of `events`, which may have those of other ones already.
local function accept_for(queues, window, events)
  local ids, before = {}, main
  for index, queue in pairs(queues) do
    switch(KEYS[index])
    local found = accept_all(queue.settings, window, queue.events)
    for i, event in ipairs(queue.events) do event.id = found[i] end
  end
  switch(before)
  for i, event in ipairs(events) do ids[i] = event.id end
  return ids
end
