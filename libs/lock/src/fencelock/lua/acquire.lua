-- Take one or several names, all or none; or stand in line for them.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, ttl ms, claim ms (and "/<limit>" to share the names), annotation ('-' for none), mode, queue ttl ms,
--       since when it stands in line ('' if that is not known), not after
--       mode: 'try' never queues, 'queue' asks for the first time, 'again' may have asked before
--       not after: server time in us at which the sender has given this request up; 0 for none
-- Reply {state, fence or since, lease or remaining ms, server time in us, annotation in the way}
--       state: 'granted', 'busy', 'queued'; 'regranted', 'requeued': an 'again' whose ticket had
--       vanished, and with it perhaps those of others; 'late': after its time, so not done at all
-- Asking again with the same owner is harmless: what is held is confirmed, with the same fence.
--@include record

local owner, ttl, annotation, mode, since = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[7]
local count = (#KEYS - 1) / 2
local time, stamp = now()

-- A network may deliver what a broken connection carried after its sender did something else.
local not_after = tonumber(ARGV[8])
if not_after > 0 and time > not_after then return {'late', '', -1, stamp, '-'} end

local limit = string.find(ARGV[3], '/', 1, true) and tonumber(string.match(ARGV[3], '/(%d+)$'))

-- Nobody holds any of the names and nobody waits for them: the usual case, in few commands.
if not limit and redis.call('EXISTS', unpack(KEYS, 2)) == 0 then
  local fence = mint(time, stamp)
  local value = owner .. ' ' .. fence .. ' ' .. annotation
  for i = 2, count + 1 do redis.call('SET', KEYS[i], value, 'PX', ttl) end
  return {mode == 'again' and 'regranted' or 'granted', fence, ttl, stamp, '-'}
end

--@include tickets

-- A queue is kept for longer than needed now, so that not each that comes has to prolong it.
local SPARE_MS = 30000

-- A ticket that vanished (all data was lost, or its client could not be reached) gets its old
-- place back: lines are ordered by the server time at which each first stood in them.
local function stand_in_line()
  if mode == 'again' and since == '' then
    local mine = find(KEYS[count + 2], owner)
    since = mine and string.match(mine, '^%S+ (%d+) ') or ''
  end
  local known = since ~= ''
  if not known then
    -- Who is new stands behind all others, also if the clock was set back.
    local latest = time
    for i = count + 2, #KEYS do
      local tail = redis.call('LINDEX', KEYS[i], -1)
      if tail then latest = math.max(latest, since_of(tail)) end
    end
    since = latest == time and stamp or exact(latest)
  end
  local bodies = bodies_of(count)
  local ticket = owner .. ' ' .. since .. ' ' .. ARGV[3] .. ' ' .. annotation .. ' '
    .. table.concat(bodies, ' ')
  local client = client_of(owner)
  local state = mode == 'again' and 'requeued' or 'queued'
  for i = count + 2, #KEYS do
    local clients, others = CLIENTS .. bodies[i - count - 1], true
    if known and redis.call('LPOS', KEYS[i], ticket) then
      state = 'queued'
    else
      if known then insert(KEYS[i], ticket, tonumber(since)) else redis.call('RPUSH', KEYS[i], ticket) end
      others = redis.call('HINCRBY', clients, client, 1) > 1
    end
    -- Who has no other ticket there has no such mark.
    if others then redis.call('HDEL', clients, '!' .. client) end
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[6]) then
      redis.call('PEXPIRE', KEYS[i], ARGV[6] + SPARE_MS)
      redis.call('PEXPIRE', clients, ARGV[6] + SPARE_MS + 1000)
    end
  end
  return state
end

local HOLDER = '^%S+ %d+ (%S+)$'

local function blocked(seen)
  local state = mode == 'try' and 'busy' or stand_in_line()
  return {state, since, seen.remaining, stamp, seen.blocker}
end

-- One name that others hold: the usual reason to wait.
if count == 1 and not limit and mode ~= 'again' then
  local value = redis.call('MGET', KEYS[2])[1]
  if value and not owned(value, owner) then
    local blocker = string.match(value, HOLDER) or '-'
    return blocked({remaining = redis.call('PTTL', KEYS[2]), blocker = blocker})
  end
end

--@include permits

-- A key without an expiry, or of somebody else's making, is in the way like any other.
local function look()
  local seen = {mine = {}, taken = false, remaining = -1, blocker = '-'}
  local function taken(left, value)
    if left >= 0 and (seen.remaining < 0 or left < seen.remaining) then seen.remaining = left end
    seen.taken = true
    seen.blocker = value and string.match(value, HOLDER) or '-'
  end
  for i, value in ipairs(redis.call('MGET', unpack(KEYS, 2, count + 1))) do
    if owned(value, owner) then
      seen.mine[#seen.mine + 1] = KEYS[i + 1]
      seen.fence = string.match(value, ' (%d+) ')
    elseif value or redis.call('EXISTS', KEYS[i + 1]) == 1 then
      local body = string.sub(KEYS[i + 1], #LOCK + 1)
      local own = limit and sharing().permit(body, owner)
      if own then
        seen.mine[#seen.mine + 1] = permit_of(body, owner)
        seen.fence = string.match(own, ' (%d+) ')
      elseif not limit or not is_shared(value) then
        taken(redis.call('PTTL', KEYS[i + 1]), value)
      elseif not sharing().admits(body, limit, time) then
        taken(sharing().next_end(body, time), value)
      end
    end
  end
  return seen
end

local seen = look()
-- Somebody holds a name: the queue does not move now. An 'again' looks closer, for the dead.
if seen.taken and #seen.mine == 0 and mode ~= 'again' then return blocked(seen) end

--@include grant
--@include queue

local bodies = bodies_of(count)
local function confirm(fence)
  for i, key in ipairs(seen.mine) do
    redis.call('PEXPIRE', key, ttl)
    if limit then
      sharing().stretch(bodies[i], owner, ttl, time)
      sharing().mark(bodies[i])
    end
  end
  return {'granted', fence, ttl, stamp, '-'}
end

if #seen.mine == count then return confirm(seen.fence) end
-- Some of the names were lost: what is left is no lease.
if #seen.mine > 0 then
  redis.call('DEL', unpack(seen.mine))
  for _, body in ipairs(limit and bodies or {}) do sharing().take_back(body, owner) end
end

local finished = advance(bodies, '-', client_of(owner))
seen = look()
if #seen.mine == count then return confirm(seen.fence) end
if not seen.taken and redis.call('EXISTS', unpack(KEYS, count + 2)) == 0 then
  local fence = mint(time, stamp)
  if limit then
    sharing().share(bodies, owner, fence, annotation, ttl, limit, time)
  else
    hold(bodies, owner, fence, annotation, ttl)
  end
  return {mode == 'again' and 'regranted' or 'granted', fence, ttl, stamp, '-'}
end
-- How long the leases run at most (ms) that keep the heads of these queues waiting; -1 if none does.
local function least_wait(bodies)
  local least = -1
  for _, body in ipairs(bodies) do
    local head = redis.call('LINDEX', QUEUE .. body, 0)
    local ticket = head and read(head)
    for _, wanted in ipairs(ticket and ticket.bodies or {}) do
      local lease = redis.call('PTTL', LOCK .. wanted)
      if lease >= 0 and (least < 0 or lease < least) then least = lease end
    end
  end
  return least
end

if not finished then
  -- The line is not cleared of the dead yet: asking again at once goes on with that.
  seen.remaining = 0
elseif not seen.taken then
  -- The names are free, but for somebody who came first and waits for more than them.
  seen.remaining = least_wait(bodies)
end
return blocked(seen)
