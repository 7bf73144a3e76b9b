-- Completes one delivery and what follows from it in one step: its response, further events, or both; or none of it.
-- KEYS  1 main lane  2.. main lanes of the queues that get events (the same slot)
-- ARGV  1 consumer  2 lane  3 id  4 1 = keep in the event log  5 1 = count here  6 dedupe window, ms
--       7 response JSON ('' = none)  8 request's uuid, hyphenated  9 request's timeout, s
--       then for each event: index of its queue in KEYS (0: the outbox, its queue is in another slot), then as in
--       enqueue.lua: unique id, delay ms, priority, inbox, n, n strings; for the outbox the fields name the queue as `to`.
-- Returns {outcome, response, ids}: outcome 'mine', 'done' (it had completed this delivery before: nothing is sent again)
--         or 'lost'; response 'sent' | 'late' | 'nobody' | ''; ids of the events, as enqueue.lua answers them.
-- Errors: ELKMQ_QUEUE_FULL of a queue that gets events; then nothing changed.
--- include keys
--- include clock
--- include owner
--- include settings
--- include accept
--- include retain
--- include respond
local consumer, lane, id, window = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
local outcome = ownership(consumer, lane, id)
if outcome ~= 'mine' then return {outcome, '', {}} end
local now, targets, i = server_time(), {}, 10
while i <= #ARGV do
  local index = tonumber(ARGV[i])
  if index > 0 then
    local target = targets[index]
    if not target then
      switch(KEYS[index])
      target = {settings = read_settings(), coming = 0}
      targets[index] = target
    end
    target.coming = target.coming + 1
  end
  i = i + 6 + tonumber(ARGV[i + 5])
end
for index, target in pairs(targets) do
  switch(KEYS[index])
  if target.settings and target.settings.max_length and target.settings.overflow ~= 'drop_oldest' then
    check_room(target.settings, function() return target.coming end)
  end
end
switch(KEYS[1])
local response = ''
if ARGV[7] ~= '' then
  local entry = redis.call('XRANGE', lane_key(lane), id, id)[1]
  response = send_response(entry and as_table(entry[2]) or nil, id, ARGV[8], tonumber(ARGV[9]), ARGV[7], now)
end
local ids = {}
i = 10
while i <= #ARGV do
  local index, unique, n = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 5])
  if index == 0 then
    local fields = {}
    for j = 0, n - 1 do fields[j + 1] = ARGV[i + 6 + j] end
    ids[#ids + 1] = redis.call('XADD', key('outbox'), '*', 'unique', unique, 'delay', ARGV[i + 2], 'priority', ARGV[i + 3], unpack(fields))
  else
    switch(KEYS[index])
    local mark = redis.call('GET', key('enqueued:' .. unique))
    if mark then
      ids[#ids + 1] = '=' .. string.match(mark, '^[^|]+')
    else
      local target = targets[index]
      ids[#ids + 1], target.settings = accept(target.settings, window, unique, tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], i + 6, n)
      if ARGV[5] == '1' then count('enqueued', 1) end
      if target.settings and target.settings.max_length and target.settings.overflow == 'drop_oldest' then
        drop_oldest(target.settings)
      end
    end
    switch(KEYS[1])
  end
  i = i + 6 + n
end
if ARGV[4] == '1' then retain(lane, id) end
remove(lane, id)
if ARGV[5] == '1' then count('completed', 1) end
return {outcome, response, ids}
