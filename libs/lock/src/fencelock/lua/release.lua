-- Give up what an owner holds or waits for, and hand over to the next in line.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, the ticket to withdraw ('' if it never queued)
-- Reply 1 if every name was held by the owner, else 0. Repeating it is harmless.
local owner, ticket = ARGV[1], ARGV[2]
local count = (#KEYS - 1) / 2
local mine, previous = {}, '-'
for i, value in ipairs(redis.call('MGET', unpack(KEYS, 2, count + 1))) do
  if value and string.sub(value, 1, #owner + 1) == owner .. ' ' then
    mine[#mine + 1] = KEYS[i + 1]
    previous = string.match(value, ' (%S+)$')
  end
end
if #mine > 0 then redis.call('DEL', unpack(mine)) end
local released = #mine == count and 1 or 0
if redis.call('EXISTS', unpack(KEYS, count + 2)) == 0 then return released end

--@include record
--@include queue

for i = 1, count do
  local queue = KEYS[count + 1 + i]
  local head = redis.call('LINDEX', queue, 0)
  if head and string.sub(head, 1, #owner + 2) == '*' .. owner .. ' ' then
    redis.call('LPOP', queue)
  elseif head and ticket ~= '' then
    redis.call('LREM', queue, 1, ticket)
  end
end
advance(bodies_of(count), previous, '')
return released
