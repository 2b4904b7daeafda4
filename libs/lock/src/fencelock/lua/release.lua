-- Give up what an owner holds or waits for, and hand over to the next in line.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, the ticket to withdraw ('' if it never queued, '?' if it is to be looked for)
-- Reply 1 if every name was held by the owner, else 0; and 2 on top if it is to be repeated, since
--       more of the dead stand in line than one script clears. Repeating it is harmless.
local owner, ticket = ARGV[1], ARGV[2]
local count = (#KEYS - 1) / 2
local mine, previous, shared = {}, '-', false
for i, value in ipairs(redis.call('MGET', unpack(KEYS, 2, count + 1))) do
  if value and string.sub(value, 1, #owner + 1) == owner .. ' ' then
    mine[#mine + 1] = KEYS[i + 1]
    previous = string.match(value, ' (%S+)$')
  elseif value and string.sub(value, 1, 1) == '*' then
    shared = true
  end
end
local released = #mine == count and 1 or 0
local line
if not shared and count > 1 then
  line = redis.call('EXISTS', unpack(KEYS, count + 2)) > 0 and {}
elseif not shared then
  line = redis.pcall('LRANGE', KEYS[3], 0, 1)
  -- What somebody else has put there is no line.
  if line.err and not string.find(line.err, 'WRONGTYPE', 1, true) then return line end
  if line.err or #line == 0 then line = false end
end
-- Nobody waits: the usual case, in few commands.
if line == false then
  if #mine > 0 then redis.call('DEL', unpack(mine)) end
  return released
end

--@include record
--@include grant

-- One name that was held, and behind it somebody who can be told: the usual hand-over. The first
-- write is one that a full memory allows, and the grant replaces what the key says.
if released == 1 and count == 1 then
  local granted = string.sub(line[1], 1, #owner + 2) == '*' .. owner .. ' '
  local body, text = string.sub(KEYS[2], #LOCK + 1), line[granted and 2 or 1]
  if granted then
    redis.call('LPOP', KEYS[3])
    if not text then
      redis.call('DEL', KEYS[2], CLIENTS .. body)
      return released
    end
    left(body, client_of(owner), 1)
  else
    redis.call('DEL', KEYS[2])
  end
  local coming = (granted or ticket == '') and read(text)
  if coming and not coming.granted and not coming.limit and #coming.bodies == 1
    and not is_absent(body, coming.client) then
    grant(coming, text, previous)
    return released
  end
end
if #mine > 0 then redis.call('DEL', unpack(mine)) end

--@include permits
--@include tickets
--@include queue

local bodies = bodies_of(count)
if shared then
  local given_up = 0
  for _, body in ipairs(bodies) do
    local value = sharing().permit(body, owner)
    if value then
      given_up = given_up + 1
      previous = string.match(value, ' (%S+)$')
      sharing().take_back(body, owner)
    end
  end
  if given_up == count then released = 1 end
end

local function withdraw(queue)
  local text = ticket == '?' and find(queue, owner) or ticket
  return redis.call('LREM', queue, 1, text)
end

for i, body in ipairs(bodies) do
  local queue, gone = KEYS[count + 1 + i], 0
  local head = redis.call('LINDEX', queue, 0)
  if head and string.sub(head, 1, #owner + 2) == '*' .. owner .. ' ' then
    redis.call('LPOP', queue)
    gone = 1
  elseif head and ticket ~= '' then
    gone = withdraw(queue)
  end
  if gone > 0 then left(body, client_of(owner), gone) end
end
if advance(bodies, previous, '') then return released end
return released + 2
