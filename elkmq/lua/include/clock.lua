-- The server's clock, in milliseconds: the only clock of the queue.
local function server_time()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Milliseconds as text: tostring() would print 1.7e+12.
local function ms(n)
  return string.format('%.0f', n)
end

-- The millisecond part of a stream id: when the server accepted the entry.
local function id_time(id)
  return tonumber(string.match(id, '^(%d+)-'))
end
