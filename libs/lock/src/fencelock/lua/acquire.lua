-- Take one or several names, all or none; or stand in line for them.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, ttl ms, claim ms, annotation ('-' for none), mode, queue ttl ms
--       mode: 'try' never queues, 'queue' asks for the first time, 'again' may have asked before
-- Reply {state, fence, lease or remaining ms, server time in us, annotation of who is in the way}
--       state: 'granted', 'busy', 'queued'; 'regranted', 'requeued': an 'again' whose ticket had
--       vanished, and with it perhaps those of others
-- Asking again with the same owner is harmless: what is held is confirmed, with the same fence.
--@include fence

local owner, ttl, annotation, mode = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local count = (#KEYS - 1) / 2
local time = now()
local stamp = exact(time)

-- Nobody holds any of the names and nobody waits for them: the usual case, in few commands.
if redis.call('EXISTS', unpack(KEYS, 2)) == 0 then
  local fence = mint(time)
  local value = owner .. ' ' .. fence .. ' ' .. annotation
  for i = 2, count + 1 do redis.call('SET', KEYS[i], value, 'PX', ttl) end
  return {mode == 'again' and 'regranted' or 'granted', fence, ttl, stamp, '-'}
end

--@include queue

local bodies = bodies_of(count)

local function look()
  local seen = {mine = {}, remaining = -1, blocker = '-'}
  for i = 1, count do
    local value = redis.call('GET', KEYS[i + 1])
    if owned(value, owner) then
      seen.mine[#seen.mine + 1] = KEYS[i + 1]
      seen.fence = string.match(value, ' (%d+) ')
    elseif value then
      local left = redis.call('PTTL', KEYS[i + 1])
      if seen.remaining < 0 or left < seen.remaining then seen.remaining = left end
      seen.blocker = string.match(value, ' (%S+)$')
    end
  end
  return seen
end

local function confirm(fence)
  for i = 1, count do redis.call('PEXPIRE', KEYS[i + 1], ttl) end
  return {'granted', fence, ttl, stamp, '-'}
end

local function nobody_in_line()
  return redis.call('EXISTS', unpack(KEYS, count + 2)) == 0
end

local function stand_in_line()
  local ticket = table.concat({owner, ttl, ARGV[3], annotation, unpack(bodies)}, ' ')
  local state = mode == 'again' and 'requeued' or 'queued'
  for i = 1, count do
    local queue = KEYS[count + 1 + i]
    if mode == 'again' and redis.call('LPOS', queue, ticket) then
      state = 'queued'
    else
      redis.call('RPUSH', queue, ticket)
    end
    if redis.call('PTTL', queue) < tonumber(ARGV[6]) then
      redis.call('PEXPIRE', queue, ARGV[6])
    end
  end
  return state
end

local seen = look()
if #seen.mine == count then return confirm(seen.fence) end
-- Some of the names were lost: what is left is no lease.
if #seen.mine > 0 then redis.call('DEL', unpack(seen.mine)) end

local empty = nobody_in_line()
if not empty then
  advance(bodies, '-', string.match(owner, '^[^.]+'))
  seen = look()
  if #seen.mine == count then return confirm(seen.fence) end
  empty = nobody_in_line()
end
if empty and seen.remaining < 0 then
  local fence = mint(time)
  hold(bodies, owner, fence, annotation, ttl)
  return {mode == 'again' and 'regranted' or 'granted', fence, ttl, stamp, '-'}
end
if mode == 'try' then return {'busy', '', seen.remaining, stamp, seen.blocker} end
return {stand_in_line(), '', seen.remaining, stamp, seen.blocker}
