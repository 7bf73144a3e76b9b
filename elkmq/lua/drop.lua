-- Deletes a queue with all its keys.
-- KEYS  1 main lane
-- ARGV  1 1 = only if unused (no consumer)  2 1 = only if empty (nothing ready, in flight or delayed)
-- Returns the number of ready events it held; -1 where it is used, -2 where it is not empty: then nothing changed.
-- Dedupe marks, the effect store and reply inboxes are not deleted: they go by themselves.
--- include keys
--- include drop
return drop_queue(ARGV[1] == '1', ARGV[2] == '1')
