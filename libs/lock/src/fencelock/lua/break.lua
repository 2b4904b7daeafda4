-- Take a name away from whoever holds it, and hand it over to the next in line.
--
-- KEYS  fence, lock key, queue key, key of the note that is left behind
-- ARGV  fence that the holder must have ('' for any), reason, who breaks it, life of the note in ms
-- Reply {1, client of the former holder ('*<limit>' for all that shared it), its fence, new fence}, or {0}:
--       nobody (else) holds it
-- The new fence lies between that of the former holder and that of the next.
--@include record
--@include grant
--@include permits
--@include tickets
--@include queue

local value = redis.call('GET', KEYS[2])
local owner, client, fence = string.match(value or '', '^(([^. ]*)%S*) ?(%d*)')
if not value or (ARGV[1] ~= '' and ARGV[1] ~= fence) then return {0} end

local body = bodies_of(1)[1]
if is_shared(value) then
  for _, each in ipairs(redis.call('ZRANGE', PERMITS .. body, 0, -1)) do
    redis.call('DEL', permit_of(body, each))
  end
  redis.call('DEL', PERMITS .. body)
end
redis.call('DEL', KEYS[2])
local time, stamp = now()
local raised = mint(time, stamp)
redis.call('HSET', KEYS[4], 'at', stamp, 'reason', ARGV[2], 'by', ARGV[3],
  'client', client, 'fence', fence, 'raised_to', raised)
redis.call('PEXPIRE', KEYS[4], ARGV[4])
local head = redis.call('LINDEX', KEYS[3], 0)
if head and string.sub(head, 1, #owner + 2) == '*' .. owner .. ' ' then
  redis.call('LPOP', KEYS[3])
  left(bodies_of(1)[1], client, 1)
end
advance(bodies_of(1), '-', '')
return {1, client, fence, raised}
