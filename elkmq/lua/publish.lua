-- Accepts events for several queues in one step, by a route that must still be right. All or none.
-- KEYS  1.. main lanes of m queues, then the exchanges that the route passes
-- ARGV  1 dedupe window, ms  2 1 = count here (server older than 7.0)  3 m  then the version of each exchange
--       then for each event: index of its queue in KEYS, unique id, delay ms, priority, inbox, n, n strings: field, value, ...
-- Returns for each event its id, with '=' before it where it had been accepted before, '~' where its queue is gone;
--   or 'changed' where a version is another: then nothing changed.
-- Errors: ELKMQ_QUEUE_FULL, ELKMQ_FORMAT.
-- Cost: HGET an exchange, GET a queue, and an event: GET, XADD, SET.
--- include keys
--- include clock
--- include settings
--- include accept
local window, counting, m = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local start = 4
for i = m + 1, #KEYS do
  if (redis.call('HGET', KEYS[i], 'v') or '') ~= ARGV[start] then return 'changed' end
  start = start + 1
end
local targets, i = {}, start
for q = 1, m do
  switch(KEYS[q])
  targets[q] = {settings = read_settings(), coming = 0, accepted = 0}
end
while i <= #ARGV do
  local target = targets[tonumber(ARGV[i])]
  local limit = target.settings and target.settings.max_length and target.settings.overflow ~= 'drop_oldest'
  if limit then
    switch(KEYS[tonumber(ARGV[i])])
    if not redis.call('GET', key('enqueued:' .. ARGV[i + 1])) then target.coming = target.coming + 1 end
  end
  i = i + 6 + tonumber(ARGV[i + 5])
end
for q = 1, m do
  if targets[q].coming > 0 then
    switch(KEYS[q])
    check_room(targets[q].settings, function() return targets[q].coming end)
  end
end
local ids = {}
i = start
while i <= #ARGV do
  local q, unique, n = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 5])
  local target = targets[q]
  switch(KEYS[q])
  local mark = unique ~= '' and redis.call('GET', key('enqueued:' .. unique))
  if target.settings and target.settings.gone then
    ids[#ids + 1] = '~'
  elseif mark then
    ids[#ids + 1] = '=' .. string.match(mark, '^[^|]+')
  else
    ids[#ids + 1], target.settings = accept(target.settings, window, unique, tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], i + 6, n)
    target.accepted = target.accepted + 1
  end
  i = i + 6 + n
end
for q = 1, m do
  local target = targets[q]
  switch(KEYS[q])
  if counting then count('enqueued', target.accepted) end
  if target.accepted > 0 and target.settings and target.settings.max_length and target.settings.overflow == 'drop_oldest' then
    drop_oldest(target.settings)
  end
end
return ids
