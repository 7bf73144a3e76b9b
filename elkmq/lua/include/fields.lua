--- include clock
-- An entry's fields as a table and back. Entries are small (2 to 20 strings).
local function as_table(fields)
  local t = {}
  for i = 1, #fields, 2 do t[fields[i]] = fields[i + 1] end
  return t
end

-- The fields that mean something to us (README.md).
local OURS = {
  'v', 'ttl', 'first', 'due', 'unique', 'reply_to', 'headers', 'kombu', 'handed_out', 'failed', 'error', 'priority', 'reason', 'died', 'entry',
  'response', 'to',
}

-- More values than a command can be given from Lua: unpack() gives up at 8,000. Enqueueing refuses such an event; of a
-- stranger's entry only the fields above are taken along when it moves.
local MOST_VALUES = 7000

-- `event` first and the rest sorted: equal entries are equal byte for byte.
local function as_fields(t)
  local names, fields = {}, {}
  for name in pairs(t) do
    if name ~= 'event' then names[#names + 1] = name end
  end
  if 2 * #names > MOST_VALUES then
    names = {}
    for _, name in ipairs(OURS) do
      if t[name] then names[#names + 1] = name end
    end
  end
  table.sort(names)
  if t.event then
    fields[1], fields[2] = 'event', t.event
  end
  for _, name in ipairs(names) do
    fields[#fields + 1] = name
    fields[#fields + 1] = t[name]
  end
  return fields
end

-- When the entry's time to live is over, in server milliseconds; nil: never. The queue's is about how long an entry may wait to be
-- handed out, so it begins when one that was put off is due.
local function deadline_of(t, id, settings)
  local ttl, limit = tonumber(t.ttl), settings and settings.ttl
  if not ttl and not limit then return nil end
  local first = tonumber(t.first) or id_time(id)
  return math.min(ttl and first + ttl or math.huge, limit and (tonumber(t.due) or first) + limit or math.huge)
end
