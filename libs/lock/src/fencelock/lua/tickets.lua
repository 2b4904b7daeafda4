-- Shared by acquire.lua, release.lua and break.lua: the queue of waiters, and its tickets.
--
-- A ticket is "<owner> <since us> <claim ms> <annotation> <body> [<body> ...]" and stands in the
-- queue of every name it asks for. One that would share is "<claim ms>/<limit>", with 0 for no limit.
-- Each queue is ordered by `since`, so tickets that share two names have the same order in both, and
-- the oldest ticket of all is at the head of each of its queues.
-- A ticket that was granted stays at the head, marked with a leading "*", until its owner releases;
-- that of one who shares leaves the queue, so that the next may share too. Behind somebody who must
-- wait everybody waits, so no kind starves another.
--
-- fencelock:w:<body> is a hash beside the queue: how many tickets each client has in it; and
-- "!<client>" for a client that cannot be reached or let a grant lapse. Its tickets are dropped when
-- they come to the head, unless it is heard of before.
-- So many tickets are read at once.
local CHUNK = 100

local function since_of(ticket) return tonumber(string.match(ticket, '^%S+ (%d+) ')) or 0 end

-- The ticket of an owner whose client does not know since when it stands in a queue; nil if none.
local function find(queue, owner)
  local first = 0
  while true do
    local chunk = redis.call('LRANGE', queue, first, first + CHUNK - 1)
    for _, ticket in ipairs(chunk) do
      if string.sub(ticket, 1, #owner + 1) == owner .. ' ' then return ticket end
    end
    if #chunk < CHUNK then return nil end
    first = first + CHUNK
  end
end

-- Put a ticket where its time says: nearly always at the end.
local function insert(queue, ticket, since)
  local tail = redis.call('LINDEX', queue, -1)
  if not tail or string.sub(tail, 1, 1) == '*' or since_of(tail) <= since then
    return redis.call('RPUSH', queue, ticket)
  end
  local first = 0
  while true do
    local chunk = redis.call('LRANGE', queue, first, first + CHUNK - 1)
    for _, other in ipairs(chunk) do
      if string.sub(other, 1, 1) ~= '*' and since_of(other) > since then
        return redis.call('LINSERT', queue, 'BEFORE', other, ticket)
      end
    end
    if #chunk == 0 then return redis.call('RPUSH', queue, ticket) end
    first = first + CHUNK
  end
end

local function bodies_of(count)
  local bodies = {}
  for i = 1, count do bodies[i] = string.sub(KEYS[i + 1], #LOCK + 1) end
  return bodies
end
