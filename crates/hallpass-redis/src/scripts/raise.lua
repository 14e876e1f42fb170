-- Raises an owner's epoch, which ends all tokens at once, and answers how many were living.
-- KEYS: epoch, states, ended
-- ARGV: now, owner, the caller's mark
local kept = redis.call('GET', KEYS[1])
local epoch, raised, by, count = '0000000000', nil, nil, nil
if kept then
  epoch, raised, by, count = string.match(kept, '^(%d+) (%d+) (%S+) (%d+)$')
  if not epoch then error({ err = 'HALLPASS an epoch is kept in another form' }) end
  -- A run of this very call has done it before, and its answer was lost.
  if by == ARGV[3] then return tonumber(count) end
  redis.call('ZREM', KEYS[3], raised .. ':' .. ARGV[2])
end
count = living_of_all(KEYS[2], epoch, ARGV[1])
epoch = string.format('%010.0f', tonumber(epoch) + 1)
redis.call('SET', KEYS[1], table.concat({ epoch, ARGV[1], ARGV[3], count }, ' '))
redis.call('ZADD', KEYS[3], 0, ARGV[1] .. ':' .. ARGV[2])
return count
