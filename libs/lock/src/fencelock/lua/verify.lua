-- Does this very lease still hold all of these names?
--
-- KEYS  one lock key a name
-- ARGV  owner, fence
-- Reply the least remaining time in ms, or -1 if any of the names is not held with that fence.
local expected = ARGV[1] .. ' ' .. ARGV[2] .. ' '
-- Somebody took a key's expiry away: it is held, until its holder's next renewal at least.
local WITHOUT_EXPIRY_MS = 1000
local remaining = -1
--@include record
--@include permits

for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do
  local key = KEYS[i]
  if is_shared(value) then
    key = permit_of(string.sub(key, #LOCK + 1), ARGV[1])
    value = value_of(key)
  end
  if not value or string.sub(value, 1, #expected) ~= expected then return -1 end
  local left = redis.call('PTTL', key)
  if left == -1 then left = WITHOUT_EXPIRY_MS end
  if remaining < 0 or left < remaining then remaining = left end
end
return remaining
