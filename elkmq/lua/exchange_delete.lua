-- Deletes an exchange with its bindings.
-- KEYS  1 the exchange
-- ARGV  1 PREFIXelkmq  2 name  3 1 = only if nothing is bound to it
-- Returns 1; -1 where something is bound to it, then nothing changed.
--- include routes
if ARGV[3] == '1' and has_bindings(ARGV[1], ARGV[2]) then return -1 end
delete_exchange(ARGV[1], ARGV[2])
return 1
