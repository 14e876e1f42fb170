-- Changes the name or the expiry of a living token. Answers 1 if it lives.
-- KEYS: epoch, token, list, states, deaths
-- ARGV: told epoch, owner, now, new name in JSON or '', new expiry or '', time to live in ms or ''
local t = read(KEYS[2])
if not t or not lives(t, present(KEYS[1], ARGV[1]), ARGV[3]) then return 0 end
local old_state, old_death = state(t), death(t, ARGV[2])
if ARGV[4] ~= '' then t.rest = ARGV[4] .. string.match(t.rest, '^[^\n]*(\n.*)$') end
if ARGV[5] ~= '' then t.expires = ARGV[5] end
write(KEYS[2], t)
if ARGV[5] ~= '' then
  move(KEYS[4], KEYS[5], ARGV[2], old_state, old_death, t)
  if ARGV[6] == '' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
  outlive(KEYS[3], false, ARGV[6])
  outlive(KEYS[4], false, ARGV[6])
end
return 1
