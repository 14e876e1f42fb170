-- Keeps a new token, on its conditions.
-- KEYS: epoch, token, list, states, deaths
-- ARGV: told epoch, owner, value, time to live in ms or '', cap or '', now, whether the caller wrote both pointers
local t = parse(ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then
  -- Whoever wrote the pointers is alone with this id: a token that is there already is this very one, kept by a first run of this
  -- script whose answer was lost.
  return ARGV[7] == '1' and 'kept' or 'conflict'
end
if present(KEYS[1], ARGV[1]) ~= t.epoch then return 'ended' end
if ARGV[5] ~= '' and living(KEYS[4], t.epoch, t.purpose, ARGV[6]) >= tonumber(ARGV[5]) then return 'cap' end
local is_new = redis.call('EXISTS', KEYS[3]) == 0
if ARGV[4] == '' then
  redis.call('SET', KEYS[2], ARGV[3])
else
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
end
redis.call('ZADD', KEYS[3], 0, listed(t))
redis.call('ZADD', KEYS[4], 0, state(t))
outlive(KEYS[3], is_new, ARGV[4])
outlive(KEYS[4], is_new, ARGV[4])
local at = death(t, ARGV[2])
if at then redis.call('ZADD', KEYS[5], 0, at) end
return 'kept'
