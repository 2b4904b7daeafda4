-- Shared by acquire.lua, release.lua and break.lua: making the first in a queue the holder.
--
-- How long a client that does not listen may take to connect again and keep its place.
local RECONNECT_MS = 300

local function hold(bodies, owner, fence, annotation, lease_ms)
  local value = owner .. ' ' .. fence .. ' ' .. annotation
  for _, body in ipairs(bodies) do
    redis.call('SET', LOCK .. body, value, 'PX', lease_ms)
  end
end

-- What a ticket says (tickets.lua), nil if it is none. `names` are its bodies as they stand there.
local function read(ticket)
  local granted, owner, client, claim_ms, limit, annotation, names =
    string.match(ticket, '^(%*?)(([^.]+)%S+) %d+ (%d+)/?(%d*) (%S+) (.+)$')
  if not names then return nil end
  local bodies = {names}
  if string.find(names, ' ', 1, true) then
    bodies = {}
    for body in string.gmatch(names, '%S+') do bodies[#bodies + 1] = body end
  end
  return {
    granted = granted == '*', owner = owner, client = client, claim_ms = claim_ms,
    limit = tonumber(limit), annotation = annotation, bodies = bodies, names = names,
  }
end

-- So many tickets of a client have left a queue.
local function left(body, client, many)
  if redis.call('HINCRBY', CLIENTS .. body, client, -many) <= 0 then
    redis.call('HDEL', CLIENTS .. body, client, '!' .. client)
  end
end

-- Some of the clients that wait for a name, and which of them cannot be reached, by body. False if
-- all tickets there are of one client, which is cheaper to learn: no such mark is beside it then.
local some = {}
local SOME = 5
local function some_clients(body)
  if some[body] == nil then
    local clients = CLIENTS .. body
    some[body] = redis.call('HLEN', clients) > 1 and redis.call('HRANDFIELD', clients, SOME)
  end
  return some[body]
end

local function is_absent(body, client)
  local clients, mark = some_clients(body), '!' .. client
  if not clients then return false end
  if #clients == SOME then return redis.call('HEXISTS', CLIENTS .. body, mark) == 1 end
  for _, each in ipairs(clients) do
    if each == mark then return true end
  end
  return false
end

-- Two clients that wait too, wherever in the line, learn how long the new lease runs, so that they
-- can ask for the name when the holder's whole process is gone, its waiters included.
local function tell_bystanders(body, holder, lease_ms)
  local told = 0
  for _, client in ipairs(some_clients(body) or redis.call('HRANDFIELD', CLIENTS .. body, 1)) do
    if client ~= holder and string.sub(client, 1, 1) ~= '!' then
      local news = 'watch ' .. body .. ' ' .. lease_ms
      if redis.call('PUBLISH', CHANNEL .. client, news) > 0 then told = told + 1 end
      if told == 2 then return end
    end
  end
end

-- Mint a fence for the ticket and tell its client that it is the holder.
-- The grant runs for a short claim only, so that a frozen process costs that and not a whole lease;
-- the new holder's first renewal stretches it to the full time. If nobody listens, its process has
-- gone, or is connecting anew: it is given a moment for that, in which it finds itself the holder.
-- Returns the time, the fence and how long the grant runs.
local function announce(ticket, previous)
  local time, stamp = now()
  local fence = mint(time, stamp)
  local lease_ms = ticket.claim_ms
  local channel = CHANNEL .. ticket.client
  -- Asked before it is told: a replica or another node of a Cluster passes the message on to those
  -- who do not listen here, and it must say how long the grant runs.
  if redis.call('PUBSUB', 'NUMSUB', channel)[2] == 0 then
    lease_ms = math.min(lease_ms, RECONNECT_MS)
  end
  redis.call('PUBLISH', channel, 'grant ' .. ticket.owner .. ' ' .. fence .. ' ' .. lease_ms .. ' '
    .. stamp .. ' ' .. previous .. ' ' .. ticket.names)
  return time, fence, lease_ms
end

-- Make the ticket at the head of its queues the only holder.
local function grant(ticket, text, previous)
  local _, fence, lease_ms = announce(ticket, previous)
  hold(ticket.bodies, ticket.owner, fence, ticket.annotation, lease_ms)
  for _, body in ipairs(ticket.bodies) do
    redis.call('LSET', QUEUE .. body, 0, '*' .. text)
    if some_clients(body) then tell_bystanders(body, ticket.client, lease_ms) end
  end
end
