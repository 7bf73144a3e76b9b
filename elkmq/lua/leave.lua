-- A consumer goes: what it still holds is handed back, not counted as a failure, and its registration ends.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 how many to hand back in this step
-- Returns how many are left; ask again until 0. The consumer stays registered until then.
--- include keys
--- include clock
--- include owner
--- include settings
--- include requeue
--- include turn
--- include takeover
local now, settings, limit = server_time(), read_settings(), tonumber(ARGV[2])
local moved, left = 0, 0
for _, lane in ipairs(lanes_of(settings)) do
  local pending = redis.pcall('XPENDING', lane_key(lane), 'elkmq', '-', '+', limit + 1, ARGV[1])
  if not pending.err then
    for _, item in ipairs(pending) do
      if moved >= limit then
        left = left + 1
      else
        local entry = redis.call('XRANGE', lane_key(lane), item[1], item[1])[1]
        local t = entry and as_table(entry[2])
        if t and t.event then
          local _
          _, settings = send_back(settings, lane, item[1], entry[2], now, {failed = 0, seen = item[4] > 1 and 1 or 0, limit = 0})
        else
          redis.call('XACK', lane_key(lane), 'elkmq', item[1])
        end
        moved = moved + 1
      end
    end
  end
end
if left == 0 then
  forget(settings, ARGV[1])
  redis.call('ZREM', key('consumers'), ARGV[1])
  redis.call('HDEL', key('consumer_info'), ARGV[1])
  pass_turn(ARGV[1])
end
return left
