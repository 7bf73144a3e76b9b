-- Gives deliveries up: into the dead letters with the reason.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 reason ('expired': as a take does it, counted and gone unless the queue wants a dead letter;
--       'format': an entry of a newer release is set aside for it)  3 error text  then lane, id, ...
-- Returns for each: 'dead', 'done' (this consumer had settled it before) or 'lost'.
-- Cost of one: TIME, GET, TYPE, XPENDING, XRANGE, XACK, XDEL, XADD, HINCRBY.
--- include keys
--- include clock
--- include owner
--- include settings
--- include bury
--- include newer
local now, settings, outcomes, aside = server_time(), read_settings(), {}, false
sure_of_graves(settings)
if ARGV[2] == 'format' then sure_of_newer() end
for i, delivery in ipairs(deliveries(ARGV[1], 4)) do
  local lane, id, outcome = delivery[1], delivery[2], delivery[3]
  if outcome == 'mine' then
    local entry = entry_of(lane, id)
    remove(lane, id)
    if entry then
      local t = as_table(entry[2])
      if is_newer(t) then
        set_aside(lane, id, t, now)
        aside = true
      else
        t.handed_out = ms((tonumber(t.handed_out) or 0) + 1)
        if ARGV[2] == 'expired' then
          expire(settings, lane, id, t, now)
        else
          bury(settings, lane, id, t, ARGV[2], ARGV[3], now)
        end
      end
    end
    outcome = 'dead'
  end
  outcomes[i] = outcome
end
if aside then tell_newer() end
return outcomes
