-- Exchanges and bindings. An exchange is a hash: field '' its definition as JSON, 'v' the version of what it leads to, and
-- a field for each binding, JSON [destination, routing key, 1 where the destination is an exchange, arguments or null].
-- A version is never used twice, so a route that a publisher remembers is either right or known to be old.
-- `place` is PREFIXelkmq.
local function exchange_key(place, name) return place .. '(exchange:' .. name .. ')' end
local function bindings_key(place, queue) return place .. '(bindings:' .. queue .. ')' end

local function new_version(place, exchange)
  redis.call('HSET', exchange_key(place, exchange), 'v', redis.call('INCR', place .. '(routing_version)'))
end

local function has_bindings(place, exchange)
  return redis.call('HLEN', exchange_key(place, exchange)) > 2
end

local function delete_exchange(place, exchange)
  redis.call('UNLINK', exchange_key(place, exchange))
  redis.call('SREM', place .. '(exchanges)', exchange)
end

-- After bindings went: an auto-delete exchange goes with its last one.
local function bindings_went(place, exchange)
  local definition = redis.call('HGET', exchange_key(place, exchange), '')
  if definition and not has_bindings(place, exchange) and cjson.decode(definition).auto_delete == true then
    delete_exchange(place, exchange)
  else
    new_version(place, exchange)
  end
end

-- Takes every binding to a queue away.
local function unbind_queue(place, queue)
  for _, exchange in ipairs(redis.call('SMEMBERS', bindings_key(place, queue))) do
    local gone = false
    for _, field in ipairs(redis.call('HKEYS', exchange_key(place, exchange))) do
      if field ~= '' and field ~= 'v' then
        local binding = cjson.decode(field)
        if binding[1] == queue and binding[3] ~= 1 then
          redis.call('HDEL', exchange_key(place, exchange), field)
          gone = true
        end
      end
    end
    if gone then bindings_went(place, exchange) end
  end
  redis.call('UNLINK', bindings_key(place, queue))
end
