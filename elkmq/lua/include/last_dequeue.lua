--- include keys
-- What a client was handed by its last dequeue, so that one whose reply was lost can be asked again, and one whose caller
-- was torn away can be undone. A client counts its dequeues: a request of an earlier turn comes too late, from a connection
-- that it gave up, and nobody reads its reply. A mark is cmsgpack {turn, lane, id, fields}, {turn} where there was nothing.
local function last_dequeue(client)
  if client == '' then return nil end
  local packed = redis.call('GET', key('dequeued:' .. client))
  if not packed then return nil end
  local known, mark = pcall(cmsgpack.unpack, packed)
  return known and type(mark) == 'table' and type(mark[1]) == 'number' and mark or nil
end

-- Never fails: where nothing was handed out and memory is full there is nothing that could be lost, but for a request that
-- comes too late.
local function note_dequeue(client, keep, mark)
  if client ~= '' then redis.pcall('SET', key('dequeued:' .. client), cmsgpack.pack(mark), 'PX', keep) end
end
