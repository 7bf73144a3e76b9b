-- Deletes a queue, its bindings, and everything in it.
-- KEYS  1 main lane
-- ARGV  1 as in queue_declare.lua  2 name  3 1 = only if unused  4 1 = only if empty
--       5 ms for which what is still sent to it, straight by its name, is dropped; '' = it makes the queue anew
--       6, 7 as in queue_declare.lua
-- Returns the number of ready events it held; -1 where it is used, -2 where it is not empty, -3 where it is another's
--   exclusive queue: then nothing changed.
--- include keys
--- include drop
--- include routes
--- include exclusive
if owner_besides(read_settings(), ARGV[6], ARGV[7]) then return -3 end
local held = drop_queue(ARGV[3] == '1', ARGV[4] == '1')
if held < 0 then return held end
if ARGV[1] ~= '' then
  unbind_queue(ARGV[1], ARGV[2])
  redis.call('ZREM', ARGV[1] .. '(expiring)', ARGV[2])
  redis.call('SREM', ARGV[1] .. '(unattended)', ARGV[2])
end
if ARGV[5] ~= '' then redis.call('SET', key('settings'), 'format=$FORMAT\ngone=1\n', 'PX', ARGV[5]) end
return held
