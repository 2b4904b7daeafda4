-- Give up what an owner holds or waits for, and hand over to the next in line.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, the ticket to withdraw ('' if it never queued)
-- Reply 1 if every name was held by the owner, else 0. Repeating it is harmless.
local count = (#KEYS - 1) / 2
local owner, ticket = ARGV[1], ARGV[2]
local held, previous = 0, '-'
for i = 1, count do
  local value = redis.call('GET', KEYS[i + 1])
  if owned(value, owner) then
    redis.call('DEL', KEYS[i + 1])
    held, previous = held + 1, string.match(value, ' (%S+)$')
  end
end
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
return held == count and 1 or 0
