-- Write the fence that a quorum decided on where its owner holds the names, and raise the counter to
-- it, so that whoever comes next gets a higher one.
--
-- KEYS  fence, one lock key a name
-- ARGV  owner, fence, ttl ms
-- Reply 1 if every name is held by the owner, now with that fence; else 0. Repeating it is harmless.
--@include record

local owner, fence, ttl = ARGV[1], ARGV[2], ARGV[3]
local values = redis.call('MGET', unpack(KEYS, 2))
local annotations = {}
for i = 1, #KEYS - 1 do
  local value = values[i]
  if not owned(value, owner) then return 0 end
  annotations[i] = string.match(value, ' (%S+)$')
end
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
if tonumber(fence) > last then
  redis.call('SET', KEYS[1], fence, 'PX', FENCE_TTL_MS)
end
for i, annotation in ipairs(annotations) do
  redis.call('SET', KEYS[i + 1], owner .. ' ' .. fence .. ' ' .. annotation, 'PX', ttl)
end
return 1
