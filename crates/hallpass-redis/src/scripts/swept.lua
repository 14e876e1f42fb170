-- Forgets that an owner is to be looked at, unless there is something left to delete.
-- KEYS: states, ended
-- ARGV: present epoch, member of ended
if redis.call('ZLEXCOUNT', KEYS[1], '-', '(' .. ARGV[1]) > 0 then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[2])
