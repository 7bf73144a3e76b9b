--- include clock
--- include settings
--- include lanes
--- include drop
-- Deletes the queue that key() speaks of, if it was not used for as long as it was declared to outlive its last use; for
-- `tombstone` ms, what is still sent to it by its name is dropped. Returns whether it is gone, and else when to look
-- again (server ms), nil where it stays for ever.
local function drop_unused(settings, now, tombstone)
  if settings and settings.gone then return true end
  local keep = settings and settings.expires
  if not keep then return redis.call('EXISTS', main, key('settings'), key('consumers'), key('delayed')) == 0 end
  local after = settings.auto_delete_after
  local last = redis.call('ZREVRANGE', key('consumers'), 0, 0, 'WITHSCORES')
  local used = #last > 0 and tonumber(last[2]) or 0
  if used <= now then used = math.max(used, tonumber(redis.pcall('HGET', key('counters'), 'used')) or 0) end
  if after and #last > 0 then keep = after end -- its consumer vanished, or lives
  if used + keep > now then return false, after and math.min(used + keep, now + after) or used + keep end
  drop_queue(false, false)
  redis.call('SET', key('settings'), 'format=$FORMAT\ngone=1\n', 'PX', tombstone)
  return true
end
