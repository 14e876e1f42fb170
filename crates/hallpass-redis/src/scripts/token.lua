#!lua
-- What all scripts share. The line above makes Redis refuse the whole script, before its first command, where it could not
-- write: out of memory, disk full, read-only replica. All times are twenty digits and compare as text.
local NEVER = '99999999999999999999'

-- A token from its value; the form is in record.rs.
local function parse(value)
  local t = {}
  t.hash, t.epoch, t.purpose, t.place, t.expires, t.used, t.revoked, t.by, t.rest =
    string.match(value, '^1 (%x+) (%d+) (%S*) (%S+) (%d+) (%S+) (%S+) (%S+)\n(.*)$')
  if not t.hash then error({ err = 'HALLPASS a token is kept in another form' }) end
  return t
end

local function read(key)
  local value = redis.call('GET', key)
  return value and parse(value)
end

-- The time to live stays as it is.
local function write(key, t)
  local first = table.concat({ '1', t.hash, t.epoch, t.purpose, t.place, t.expires, t.used, t.revoked, t.by }, ' ')
  redis.call('SET', key, first .. '\n' .. t.rest, 'KEEPTTL')
end

-- The owner's present epoch: told by the caller where another database keeps it.
local function present(key, told)
  if told ~= '' then return told end
  local kept = redis.call('GET', key)
  if not kept then return '0000000000' end
  local epoch = string.match(kept, '^(%d%d%d%d%d%d%d%d%d%d) %d')
  if not epoch then error({ err = 'HALLPASS an epoch is kept in another form' }) end
  return epoch
end

-- The rule of life, the same as TokenRecord::living, which the conformance suite compares it with.
local function lives(t, epoch, now)
  return t.revoked == '-' and t.epoch == epoch and now < t.expires
end

-- Its member of the owner's list.
local function listed(t) return t.purpose .. ':' .. t.place end

-- Its member of the owner's states. All that may live, of one epoch and purpose, are one range, sorted by expiry: counting them is
-- one command, however many there are.
local function state(t)
  local kind = t.revoked == '-' and 'l' or 'r'
  return table.concat({ t.epoch, kind, t.purpose, t.expires, t.place }, ':')
end

-- Its member of the shard's deaths, if it has an instant of death of its own. It names all other members, so that they can
-- be deleted when the value is gone.
local function death(t, owner)
  local at = t.expires
  if t.revoked ~= '-' and t.revoked < at then at = t.revoked end
  if at == NEVER then return nil end
  return table.concat({ at, t.epoch, t.purpose, t.expires, t.place, owner }, ':')
end

-- The new member first: an index that were empty in between would lose its time to live.
local function swap(key, old, new)
  if old == new then return end
  if new then redis.call('ZADD', key, 0, new) end
  if old then redis.call('ZREM', key, old) end
end

-- Moves the members of a token that has changed.
local function move(states, deaths, owner, old_state, old_death, t)
  swap(states, old_state, state(t))
  swap(deaths, old_death, death(t, owner))
end

-- How many may live at `now` under an epoch, of one purpose. ';' follows ':', so it ends a range.
local function living(states, epoch, purpose, now)
  local head = epoch .. ':l:' .. purpose
  return redis.call('ZLEXCOUNT', states, '[' .. head .. ':' .. now .. ';', '(' .. head .. ';')
end

-- The same of all purposes: from purpose to purpose.
local function living_of_all(states, epoch, now)
  local count, from = 0, '[' .. epoch .. ':l:'
  while true do
    local first = redis.call('ZRANGEBYLEX', states, from, '(' .. epoch .. ':l;', 'LIMIT', 0, 1)[1]
    if not first then return count end
    local purpose = string.match(first, '^%d+:l:([^:]*):')
    count = count + living(states, epoch, purpose, now)
    from = '[' .. epoch .. ':l:' .. purpose .. ';'
  end
end

-- An index lives at least as long as what it lists.
local function outlive(key, is_new, ttl)
  if ttl == '' then
    redis.call('PERSIST', key)
  elseif is_new then
    redis.call('PEXPIRE', key, ttl)
  else
    redis.call('PEXPIRE', key, ttl, 'GT')
  end
end
