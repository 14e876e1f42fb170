-- Revokes a token, or uses it up, which has more conditions. Answers 1 if this call did it.
-- KEYS: epoch, token, states, deaths
-- ARGV: told epoch, owner, hash or '' for any, now, the caller's mark, 'take' or 'revoke', purpose to be taken for
local t = read(KEYS[2])
if not t or (ARGV[3] ~= '' and ARGV[3] ~= t.hash) then return 0 end
-- A run of this very call has done it before, and its answer was lost.
if t.by == ARGV[5] then return 1 end
if t.revoked ~= '-' then return 0 end
if ARGV[6] == 'take' then
  local epoch = present(KEYS[1], ARGV[1])
  if t.purpose ~= ARGV[7] or not lives(t, epoch, ARGV[4]) then return 0 end
end
local old_state, old_death = state(t), death(t, ARGV[2])
t.revoked, t.by = ARGV[4], ARGV[5]
write(KEYS[2], t)
move(KEYS[3], KEYS[4], ARGV[2], old_state, old_death, t)
return 1
