-- Notes that an owner's epoch, which another database keeps, is raised now or a moment later, so that prune will look; answers
-- how many tokens were living under the epoch told.
-- KEYS: epoch, states, ended
-- ARGV: told epoch, owner, now
local kept = redis.call('GET', KEYS[1])
if kept then redis.call('ZREM', KEYS[3], string.match(kept, '^%d+ (%d+)') .. ':' .. ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[3] .. ':' .. ARGV[2])
return living_of_all(KEYS[2], ARGV[1], ARGV[3])
