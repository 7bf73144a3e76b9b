--- include fields
--- include group
--- include lanes
-- Clients of elk-mq 0.1 add an entry to the main lane and then, in a second command, its id to their list. Our consumers read
-- the lane, so the list is removed, unless the queue serves original consumers. But where the lane's group was made between
-- the two, or ids came to the list in another order than their entries to the lane, an entry that waits was taken for
-- history (history.lua). Its id comes to the list all the same, and then it goes to the lane that is read first.
-- Removed from the main lane first, which a server with its memory full allows, and with that the rest.
local function adopt(settings, id)
  local found = redis.pcall('XRANGE', main, id, id)
  local entry = not found.err and found[1] -- an error: a number that no id can have
  if not entry then return false end
  local t = as_table(entry[2])
  if not t.event then return false end
  t.first = t.first or ms(id_time(id))
  redis.call('XDEL', main, id)
  add(settings, 'r', as_fields(t))
  count('history', -1)
  return true
end

-- Returns whether the list is longer than what is looked through in one step, and whether anything was adopted.
local function drop_list(settings)
  if settings and settings.serve_elkmq01 then return false, false end
  local list = key('message_queue')
  local length = redis.pcall('LLEN', list)
  if length == 0 then return false, false end
  sure_of_history() -- which the list tells
  local ends = type(length) == 'number' and end_of_noted_history()
  if not ends then
    redis.call('UNLINK', list)
    return false, false
  end
  sure_of_lane(settings, 'r')
  local ids, adopted = redis.call('LRANGE', list, -1000, -1), false
  for i = #ids, 1, -1 do
    local id = ids[i]
    if string.find(id, '^%d+%-%d+$') and not is_older(ends, id) then adopted = adopt(settings, id) or adopted end
  end
  redis.call('LTRIM', list, 0, -#ids - 1)
  return length > #ids, adopted
end
