-- Notes when a token was last used: never backwards, never on one that is revoked or gone.
-- KEYS: token
-- ARGV: when
local t = read(KEYS[1])
if not t or t.revoked ~= '-' then return 0 end
if t.used ~= '-' and t.used >= ARGV[1] then return 0 end
t.used = ARGV[1]
write(KEYS[1], t)
return 1
