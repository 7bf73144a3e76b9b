-- A client's first contact with a queue: makes the group before the first event of ours is there, so that it is known
-- which entries are history of clients of elk-mq 0.1 (see include/group.lua).
-- KEYS  1 main lane
-- Returns 1 where the queue was new, else 0.
--- include keys
--- include group
--- include settings
read_settings()
return ensure_group('0') and 1 or 0
