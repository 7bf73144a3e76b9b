--- include keys
--- include clock
-- Of an exclusive queue: its owner, where that has a lease and is neither of these two; else nil.
local function owner_besides(settings, one, other)
  local owner = settings and settings.exclusive
  if not owner or owner == one or owner == other then return nil end
  local ends = redis.call('ZSCORE', key('consumers'), owner)
  return ends and tonumber(ends) > server_time() and owner or nil
end
