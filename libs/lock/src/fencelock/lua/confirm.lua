-- Write the fence that a quorum decided on where its owner holds the names, and raise the counter to
-- it, so that whoever comes next gets a higher one.
--
-- KEYS  fence, one lock key a name
-- ARGV  owner, fence, ttl ms
-- Reply 1 if every name is held by the owner, now with that fence; else 0. Repeating it is harmless.
local owner, fence, ttl = ARGV[1], ARGV[2], ARGV[3]
local values = redis.call('MGET', unpack(KEYS, 2))
local annotations = {}
for i = 1, #KEYS - 1 do
  local value = values[i]
  if not value or string.sub(value, 1, #owner + 1) ~= owner .. ' ' then return 0 end
  annotations[i] = string.match(value, ' (%S+)$')
end
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
if tonumber(fence) > last then
  -- As long as record.lua keeps it.
  redis.call('SET', KEYS[1], fence, 'PX', 7 * 24 * 3600 * 1000)
end
for i, annotation in ipairs(annotations) do
  redis.call('SET', KEYS[i + 1], owner .. ' ' .. fence .. ' ' .. annotation, 'PX', ttl)
end
return 1
