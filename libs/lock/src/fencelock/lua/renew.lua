-- Extend many leases of one process in one call; each of them all or none.
--
-- KEYS  the lock keys (or those of the permits) of the first lease, then of the second, ...
-- ARGV  for each lease: owner, ttl ms, how many keys it has
-- Reply one number a lease: 1 extended, 0 not (or no longer) the holder. Repeating it is harmless.
-- MGET, since a key that somebody else put there, of another type, must not spoil the others.
local values = redis.call('MGET', unpack(KEYS))

--@include record
--@include permits

local time = now()
local function body_of(key, owner)
  return string.sub(key, 1, #PERMIT) == PERMIT and string.sub(key, #PERMIT + #owner + 2)
end

local function extend(key, owner, ttl)
  local body = body_of(key, owner)
  redis.call('PEXPIRE', key, ttl)
  if body then
    sharing().stretch(body, owner, ttl, time)
    sharing().mark(body)
  end
  -- Writing ends the tracking of a key, reading begins it, for a connection that asked for that.
  redis.call('EXISTS', key)
end

local replies, first = {}, 1
for i = 1, #ARGV, 3 do
  local owner, ttl, last = ARGV[i], ARGV[i + 1], first + ARGV[i + 2] - 1
  local held = 1
  for k = first, last do
    if not owned(values[k], owner) then held = 0 end
    local body = body_of(KEYS[k], owner)
    if body and not is_shared(value_of(LOCK .. body)) then held = 0 end
  end
  if held == 1 then
    for k = first, last do extend(KEYS[k], owner, ttl) end
  end
  replies[#replies + 1] = held
  first = last + 1
end
return replies
