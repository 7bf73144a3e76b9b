-- Gives deliveries up: into the dead letters with the reason.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 reason  3 error text  then lane, id, ...
-- Returns for each: 'dead', 'done' (this consumer had settled it before) or 'lost'.
--- include keys
--- include clock
--- include owner
--- include settings
--- include bury
local now, settings, outcomes = server_time(), read_settings(), {}
for i = 4, #ARGV, 2 do
  local lane, id = ARGV[i], ARGV[i + 1]
  local outcome = ownership(ARGV[1], lane, id)
  if outcome == 'mine' then
    local entry = redis.call('XRANGE', lane_key(lane), id, id)[1]
    if entry then
      local t = as_table(entry[2])
      t.handed_out = tostring((tonumber(t.handed_out) or 0) + 1)
      if ARGV[2] == 'expired' then
        expire(settings, lane, id, t, now)
      else
        bury(settings, lane, id, t, ARGV[2], ARGV[3], now)
      end
    end
    remove(lane, id)
    outcome = 'dead'
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
