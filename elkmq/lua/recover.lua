-- What a consumer was handed but never saw: pending for it, and not among those it knows.
-- KEYS  1 main lane
-- ARGV  1 consumer  2 how many at most  then lane, id of those it knows, ...
-- Returns entries as take.lua. Errors: ELKMQ_CONSUMER_GONE.
-- Cost where everything was seen: ZSCORE, GET, XPENDING x3, ZCARD. For each entry one XRANGE more.
--- include keys
--- include clock
--- include owner
--- include settings
--- include legacy
--- include fields
--- include wake
local limit, known, entries = tonumber(ARGV[2]), {}, {}
require_registered(ARGV[1])
local settings = read_settings()
for i = 3, #ARGV, 2 do known[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end
for _, lane in ipairs(lanes_of(settings)) do
  for _, item in ipairs(pending_of(ARGV[1], lane, limit + (#ARGV - 2) / 2)) do
    if not known[lane .. ' ' .. item[1]] and #entries < limit then
      local entry = entry_of(lane, item[1])
      local t = entry and as_table(entry[2])
      if not entry then
        redis.call('XACK', lane_key(lane), 'elkmq', item[1])
      elseif is_response(t, lane) then
        keep_response(item[1], t.response)
      else
        entries[#entries + 1] = {lane, item[1], entry[2]}
      end
    end
  end
end
pass_tokens(ARGV[1], 1)
return entries
