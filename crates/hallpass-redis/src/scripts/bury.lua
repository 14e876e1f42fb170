-- Deletes a token that died before the cutoff, and remembers that its two pointers, which lie in other slots, are to be deleted.
-- Answers { 1 if deleted, 0 if there was nothing to delete, -1 if it did not die; the hash if known }.
-- KEYS: epoch, token, list, states, deaths, buried
-- ARGV: told epoch, when it was raised or '', owner, cutoff, and as the member that led here says:
--       epoch, purpose, expiry, place; that member of deaths or ''
local t = read(KEYS[2])
local lead = ARGV[9]
if t then
  local epoch, raised = present(KEYS[1], ARGV[1]), ARGV[2]
  if ARGV[1] == '' then
    local kept = redis.call('GET', KEYS[1])
    raised = kept and string.match(kept, '^%d+ (%d+)') or ''
  end
  local ended = t.epoch ~= epoch and raised ~= '' and raised < ARGV[4]
  local died = t.expires < ARGV[4] or (t.revoked ~= '-' and t.revoked < ARGV[4])
  if not (ended or died) then
    if lead ~= '' and lead ~= death(t, ARGV[3]) then redis.call('ZREM', KEYS[5], lead) end
    return { -1, '' }
  end
else
  -- Its time to live is over: what is left are the members.
  t = { epoch = ARGV[5], purpose = ARGV[6], expires = ARGV[7], place = ARGV[8], revoked = '-', hash = '' }
end
local removed = redis.call('ZREM', KEYS[3], listed(t))
redis.call('ZREM', KEYS[4], state(t))
local at = death(t, ARGV[3])
if at then redis.call('ZREM', KEYS[5], at) end
if lead ~= '' then redis.call('ZREM', KEYS[5], lead) end
if t.hash == '' then
  t.revoked = NEVER
  redis.call('ZREM', KEYS[4], state(t))
end
redis.call('UNLINK', KEYS[2])
redis.call('SADD', KEYS[6], string.match(t.place, '%.(.*)$') .. ':' .. t.hash)
return { removed, t.hash }
