-- Does this very lease still hold all of these names?
--
-- KEYS  one lock key a name
-- ARGV  owner, fence
-- Reply the least remaining time in ms, or -1 if any of the names is not held with that fence.
local expected = ARGV[1] .. ' ' .. ARGV[2] .. ' '
local remaining = -1
for _, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if not value or string.sub(value, 1, #expected) ~= expected then return -1 end
  local left = redis.call('PTTL', key)
  if remaining < 0 or left < remaining then remaining = left end
end
return remaining
