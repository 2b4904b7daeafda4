-- Does this very lease still hold all of these names?
--
-- KEYS  one lock key a name
-- ARGV  owner, fence
-- Reply the least remaining time in ms, or -1 if any of the names is not held with that fence.
local expected = ARGV[1] .. ' ' .. ARGV[2] .. ' '
-- Somebody took a key's expiry away: it is held, until its holder's next renewal at least.
local WITHOUT_EXPIRY_MS = 1000
local remaining = -1
for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do
  if not value or string.sub(value, 1, #expected) ~= expected then return -1 end
  local left = redis.call('PTTL', KEYS[i])
  if left == -1 then left = WITHOUT_EXPIRY_MS end
  if remaining < 0 or left < remaining then remaining = left end
end
return remaining
