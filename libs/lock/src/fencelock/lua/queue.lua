-- Shared by acquire.lua and release.lua: the queue of waiters, and handing a lock over.
--
-- A ticket is "<owner> <ttl ms> <claim ms> <annotation> <body> [<body> ...]" and stands in the queue
-- of every name it asks for. Scripts are atomic, so tickets that share two names have the same order
-- in both queues, and the oldest ticket of all is always at the head of each of its queues.
-- A ticket that was granted stays at the head, marked with a leading "*", until its owner releases.
local QUEUE, CHANNEL = 'fencelock:q:', 'fencelock:c:'

local function hold(bodies, owner, fence, annotation, lease_ms)
  local value = owner .. ' ' .. fence .. ' ' .. annotation
  for _, body in ipairs(bodies) do
    redis.call('SET', LOCK .. body, value, 'PX', lease_ms)
  end
end

local function read(ticket)
  local granted, owner, client, claim_ms, annotation, rest =
    string.match(ticket, '^(%*?)(([^.]+)%S+) %d+ (%d+) (%S+) (.+)$')
  local bodies = {rest}
  if string.find(rest, ' ', 1, true) then
    bodies = {}
    for body in string.gmatch(rest, '%S+') do bodies[#bodies + 1] = body end
  end
  return {
    granted = granted == '*', owner = owner, client = client,
    claim_ms = claim_ms, annotation = annotation, bodies = bodies,
  }
end

-- The client behind a ticket is gone: drop every ticket it has in this queue, and return the names
-- whose queues changed. `only` keeps it to that one ticket.
local function purge(queue, client, only)
  local changed = {}
  for _, text in ipairs(only and {only} or redis.call('LRANGE', queue, 0, -1)) do
    local ticket = read(text)
    if ticket.client == client then
      for _, body in ipairs(ticket.bodies) do
        redis.call('LREM', QUEUE .. body, 1, text)
        changed[#changed + 1] = body
      end
    end
  end
  return changed
end

local function ready(text, bodies)
  if #bodies == 1 then return redis.call('EXISTS', LOCK .. bodies[1]) == 0 end
  for _, body in ipairs(bodies) do
    if redis.call('EXISTS', LOCK .. body) == 1 then return false end
    if redis.call('LINDEX', QUEUE .. body, 0) ~= text then return false end
  end
  return true
end

-- A waiter in another process learns how long the new lease runs, so that it can ask for the names
-- when the holder's whole process is gone, its waiters included.
local function tell_bystander(line, ticket)
  for place = 2, #line do
    if string.find(line[place], ticket.client, 1, true) ~= 1 then
      local owner, client = string.match(line[place], '^(([^.]+)%S+)')
      redis.call('PUBLISH', CHANNEL .. client, 'watch ' .. owner .. ' ' .. ticket.claim_ms)
      return
    end
  end
end

-- Make the ticket the holder and tell it. False if nobody listens: its process has gone.
-- The grant runs for a short claim only, so that a frozen process costs that and not a whole lease;
-- the new holder's first renewal stretches it to the full time.
local function grant(ticket, line, previous)
  local time = now()
  local fence = mint(time)
  local message = table.concat(
    {'grant', ticket.owner, fence, ticket.claim_ms, exact(time), previous}, ' ')
  if redis.call('PUBLISH', CHANNEL .. ticket.client, message) == 0 then return false end
  hold(ticket.bodies, ticket.owner, fence, ticket.annotation, ticket.claim_ms)
  for _, body in ipairs(ticket.bodies) do
    redis.call('LSET', QUEUE .. body, 0, '*' .. line[1])
  end
  tell_bystander(line, ticket)
  return true
end

-- Look at the head of one queue. Returns the names to look at next if tickets were dropped.
local function settle(body, previous, caller)
  local queue = QUEUE .. body
  -- The head, and a few more among whom to look for a waiter in another process.
  local line = redis.call('LRANGE', queue, 0, 4)
  local text = line[1]
  if not text then return nil end
  local ticket = read(text)
  if ticket.granted then
    if owned(redis.call('GET', LOCK .. body), ticket.owner) then return nil end
    -- It let its lease lapse: the process is dead or frozen, unless it is the one that is asking.
    return purge(queue, ticket.client, ticket.client == caller and text or nil)
  end
  if ready(text, ticket.bodies) then
    if grant(ticket, line, previous) then return nil end
    return purge(queue, ticket.client)
  end
  -- A dead waiter for several names must not keep those of them that are free.
  if #ticket.bodies > 1 and redis.call('PUBSUB', 'NUMSUB', CHANNEL .. ticket.client)[2] == 0 then
    return purge(queue, ticket.client)
  end
  return nil
end

-- Grant to whoever can proceed now in the queues of these names, skipping the dead.
local function advance(bodies, previous, caller)
  local work = {unpack(bodies)}
  while #work > 0 do
    local changed = settle(table.remove(work), previous, caller)
    for _, body in ipairs(changed or {}) do work[#work + 1] = body end
  end
end

-- How long the leases run at most (ms) that keep the heads of these queues waiting; -1 if none does.
local function least_wait(bodies)
  local least = -1
  for _, body in ipairs(bodies) do
    local head = redis.call('LINDEX', QUEUE .. body, 0)
    for _, wanted in ipairs(head and read(head).bodies or {}) do
      local left = redis.call('PTTL', LOCK .. wanted)
      if left >= 0 and (least < 0 or left < least) then least = left end
    end
  end
  return least
end

local function bodies_of(count)
  local bodies = {}
  for i = 1, count do bodies[i] = string.sub(KEYS[i + 1], #LOCK + 1) end
  return bodies
end
