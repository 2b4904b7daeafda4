-- Shared by acquire.lua, release.lua and break.lua: handing a lock over to the next in its queue,
-- whoever stands there. What a queue is, and its tickets, is in tickets.lua.
--
-- One script drops so many tickets of the dead at most (about a millisecond); the next goes on.
local budget = 400
-- What granting a permit costs of that budget.
local GRANT_COST = 4
-- Names of which this script gave permits, and for how long, which nobody else was told yet.
local given = {}

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
      if not ticket or ticket.client ~= client or ticket.granted then break end
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

local function free(body, limit)
  if limit then return sharing().admits(body, limit, now()) end
  return redis.call('EXISTS', LOCK .. body) == 0
end

local function ready(text, ticket)
  local bodies = ticket.bodies
  for _, body in ipairs(bodies) do
    if not free(body, ticket.limit) then return false end
    if #bodies > 1 and redis.call('LINDEX', QUEUE .. body, 0) ~= text then return false end
  end
  return true
end

-- Make the ticket one of the holders. Returns the names to look at next: the next may share, too.
local function grant_permit(ticket, text, previous)
  local time, fence, lease_ms = announce(ticket, previous)
  sharing().share(ticket.bodies, ticket.owner, fence, ticket.annotation, lease_ms, ticket.limit, time)
  cleaning().drop(text, ticket)
  budget = budget - GRANT_COST * #ticket.bodies
  for _, body in ipairs(ticket.bodies) do given[body] = lease_ms end
  return ticket.bodies
end

-- Look at the head of one queue. Returns the names to look at next if tickets were dropped.
local function settle(body, previous, caller)
  some[body] = nil
  local text = redis.call('LINDEX', QUEUE .. body, 0)
  if not text then return nil end
  local ticket = read(text)
  if not ticket then
    -- Somebody else has put that there: nobody is waiting with it.
    redis.call('LPOP', QUEUE .. body)
    return {body}
  end
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
  if ready(text, ticket) then
    if ticket.limit then return grant_permit(ticket, text, previous) end
    return grant(ticket, text, previous)
  end
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
