-- Shared by acquire.lua, release.lua and break.lua: handing a lock over to the next in its queue.
-- What a queue is, and its tickets, is in tickets.lua.
--
-- One script drops so many tickets of the dead at most (about a millisecond); the next goes on.
local budget = 400
-- How long a client that does not listen may take to connect again and keep its place.
local RECONNECT_MS = 300
-- What granting a permit costs of that budget.
local GRANT_COST = 4
-- Names of which this script gave permits, and for how long, which nobody else was told yet.
local given = {}

local function hold(bodies, owner, fence, annotation, lease_ms)
  local value = owner .. ' ' .. fence .. ' ' .. annotation
  for _, body in ipairs(bodies) do
    redis.call('SET', LOCK .. body, value, 'PX', lease_ms)
  end
end

local function read(ticket)
  local granted, owner, client, claim_ms, limit, annotation, rest =
    string.match(ticket, '^(%*?)(([^.]+)%S+) %d+ (%d+)/?(%d*) (%S+) (.+)$')
  local bodies = {rest}
  if string.find(rest, ' ', 1, true) then
    bodies = {}
    for body in string.gmatch(rest, '%S+') do bodies[#bodies + 1] = body end
  end
  return {
    granted = granted == '*', owner = owner, client = client,
    claim_ms = claim_ms, limit = tonumber(limit), annotation = annotation, bodies = bodies,
  }
end

-- So many tickets of a client have left a queue.
local function left(body, client, many)
  if redis.call('HINCRBY', CLIENTS .. body, client, -many) <= 0 then
    redis.call('HDEL', CLIENTS .. body, client, '!' .. client)
  end
end

-- What is needed only where somebody has died, or shares, is made then.
local cleaner
local function cleaning()
  if cleaner then return cleaner end

  -- Take a ticket out of every queue it stands in.
  local function drop(text, ticket)
    for _, body in ipairs(ticket.bodies) do
      if redis.call('LREM', QUEUE .. body, 1, text) == 1 then left(body, ticket.client, 1) end
    end
  end

  -- Drop the tickets of one client from the head of a queue up to the first of somebody else, or so
  -- many as the budget allows. Returns the names whose queues changed.
  local function drop_run(body, client)
    local queue, changed, run = QUEUE .. body, {body}, 0
    for _, text in ipairs(redis.call('LRANGE', queue, 0, math.min(budget, CHUNK) - 1)) do
      local ticket = read(text)
      if ticket.client ~= client or ticket.granted then break end
      run = run + 1
      budget = budget - 1
      for _, other in ipairs(ticket.bodies) do
        if other ~= body then
          if redis.call('LREM', QUEUE .. other, 1, text) == 1 then left(other, client, 1) end
          changed[#changed + 1] = other
          budget = budget - 1
        end
      end
      if budget <= 0 then break end
    end
    redis.call('LTRIM', queue, run, -1)
    left(body, client, run)
    return changed
  end

  local function absent(body, client)
    redis.call('HSET', CLIENTS .. body, '!' .. client, 1)
  end

  -- Forget permits whose leases are over. Who let one lapse is dead or frozen, as far as its tickets
  -- here go, unless it is the one that is asking.
  local function forget_lapsed(body, caller)
    local over = redis.call('ZRANGE', PERMITS .. body, '-inf', exact(ms_of(now())), 'BYSCORE', 'LIMIT', 0, CHUNK)
    if #over == 0 then return end
    redis.call('ZREM', PERMITS .. body, unpack(over))
    for _, owner in ipairs(over) do
      local client = client_of(owner)
      if client ~= caller and redis.call('HEXISTS', CLIENTS .. body, client) == 1 then
        absent(body, client)
      end
    end
  end

  cleaner = {drop = drop, drop_run = drop_run, absent = absent, forget_lapsed = forget_lapsed}
  return cleaner
end

-- What a script knows that has just given a name up, until it grants it: the head of its queue (by
-- body), and that the name is free.
local heads, freed = {}, {}

-- Some of the clients that wait for a name, and which of them cannot be reached, by body.
local some = {}
local SOME = 5
local function some_clients(body)
  some[body] = some[body] or redis.call('HRANDFIELD', CLIENTS .. body, SOME)
  return some[body]
end

local function is_absent(body, client)
  local clients, mark = some_clients(body), '!' .. client
  if #clients == SOME then return redis.call('HEXISTS', CLIENTS .. body, mark) == 1 end
  for _, each in ipairs(clients) do
    if each == mark then return true end
  end
  return false
end

local function free(body, limit)
  if limit then return sharing().admits(body, limit, now()) end
  return freed[body] or redis.call('EXISTS', LOCK .. body) == 0
end

local function ready(text, ticket)
  local bodies = ticket.bodies
  for _, body in ipairs(bodies) do
    if not free(body, ticket.limit) then return false end
    if #bodies > 1 and redis.call('LINDEX', QUEUE .. body, 0) ~= text then return false end
  end
  return true
end

-- Two clients that wait too, wherever in the line, learn how long the new lease runs, so that they
-- can ask for the name when the holder's whole process is gone, its waiters included.
local function tell_bystanders(body, holder, lease_ms)
  local told = 0
  for _, client in ipairs(some_clients(body)) do
    if client ~= holder and string.sub(client, 1, 1) ~= '!' then
      local news = 'watch ' .. body .. ' ' .. lease_ms
      if redis.call('PUBLISH', CHANNEL .. client, news) > 0 then told = told + 1 end
      if told == 2 then return end
    end
  end
end

-- Make the ticket the holder and tell it.
-- The grant runs for a short claim only, so that a frozen process costs that and not a whole lease;
-- the new holder's first renewal stretches it to the full time. If nobody listens, its process has
-- gone, or is connecting anew: it is given a moment for that, in which it finds itself the holder.
-- Returns the names to look at next.
local function grant(ticket, text, previous)
  freed = {}
  local time = now()
  local stamp = exact(time)
  local fence = mint(time, stamp)
  local lease_ms = ticket.claim_ms
  -- Asked before it is told: a replica or another node of a Cluster passes the message on to those
  -- who do not listen here, and it must say how long the grant runs.
  if redis.call('PUBSUB', 'NUMSUB', CHANNEL .. ticket.client)[2] == 0 then
    lease_ms = math.min(lease_ms, RECONNECT_MS)
  end
  local message = table.concat({'grant', ticket.owner, fence, lease_ms, stamp,
    previous, unpack(ticket.bodies)}, ' ')
  redis.call('PUBLISH', CHANNEL .. ticket.client, message)
  if ticket.limit then
    sharing().share(ticket.bodies, ticket.owner, fence, ticket.annotation, lease_ms, ticket.limit, time)
    cleaning().drop(text, ticket)
    budget = budget - GRANT_COST * #ticket.bodies
    for _, body in ipairs(ticket.bodies) do given[body] = lease_ms end
    return ticket.bodies
  end
  hold(ticket.bodies, ticket.owner, fence, ticket.annotation, lease_ms)
  for _, body in ipairs(ticket.bodies) do
    redis.call('LSET', QUEUE .. body, 0, '*' .. text)
    tell_bystanders(body, ticket.client, lease_ms)
  end
end

-- Look at the head of one queue. Returns the names to look at next if tickets were dropped.
local function settle(body, previous, caller)
  some[body] = nil
  local text = heads[body] or redis.call('LINDEX', QUEUE .. body, 0)
  heads[body] = nil
  if not text then return nil end
  local ticket = read(text)
  if ticket.granted then
    if owned(redis.call('GET', LOCK .. body), ticket.owner) then return nil end
    -- It let its lease lapse: the process is dead or frozen, unless it is the one that is asking.
    if ticket.client ~= caller then cleaning().absent(body, ticket.client) end
    cleaning().drop(text, ticket)
    return ticket.bodies
  end
  if ticket.limit then cleaning().forget_lapsed(body, caller) end
  if is_absent(body, ticket.client) then
    return cleaning().drop_run(body, ticket.client)
  end
  if ready(text, ticket) then return grant(ticket, text, previous) end
  if given[body] then
    tell_bystanders(body, '', given[body])
    given[body] = nil
  end
  -- A dead waiter for several names must not keep those of them that are free.
  if #ticket.bodies > 1 and redis.call('PUBSUB', 'NUMSUB', CHANNEL .. ticket.client)[2] == 0 then
    cleaning().absent(body, ticket.client)
    return cleaning().drop_run(body, ticket.client)
  end
  return nil
end

-- Grant to whoever can proceed now in the queues of these names, skipping the dead. False if there
-- are more of them than one script clears.
local function advance(bodies, previous, caller)
  local work = {unpack(bodies)}
  while #work > 0 do
    if budget <= 0 then return false end
    local changed = settle(table.remove(work), previous, caller)
    for _, body in ipairs(changed or {}) do work[#work + 1] = body end
  end
  return true
end
