-- Take one or several names, all or none; or stand in line for them.
--
-- KEYS  fence, one lock key a name, one queue key a name
-- ARGV  owner, ttl ms, claim ms, annotation ('-' for none), mode, queue ttl ms
--       mode: 'try' never queues, 'queue' asks for the first time, 'again' may have asked before
-- Reply {state, fence, lease or remaining ms, server time in us, annotation of who is in the way}
--       state: 'granted', 'busy', 'queued'; 'regranted', 'requeued': an 'again' whose ticket had
--       vanished, and with it perhaps those of others
-- Asking again with the same owner is harmless: what is held is confirmed, with the same fence.
--@include record

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

local function look()
  local seen = {mine = {}, remaining = -1, blocker = '-'}
  for i, value in ipairs(redis.call('MGET', unpack(KEYS, 2, count + 1))) do
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

local function stand_in_line()
  local ticket = {owner, ttl, ARGV[3], annotation}
  for i = 2, count + 1 do ticket[i + 3] = string.sub(KEYS[i], #LOCK + 1) end
  ticket = table.concat(ticket, ' ')
  local state = mode == 'again' and 'requeued' or 'queued'
  for i = count + 2, #KEYS do
    if mode == 'again' and redis.call('LPOS', KEYS[i], ticket) then
      state = 'queued'
    else
      redis.call('RPUSH', KEYS[i], ticket)
    end
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[6]) then
      redis.call('PEXPIRE', KEYS[i], ARGV[6])
    end
  end
  return state
end

local function blocked(seen)
  local state = mode == 'try' and 'busy' or stand_in_line()
  return {state, '', seen.remaining, stamp, seen.blocker}
end

local seen = look()
-- Somebody holds a name: the queue does not move now. An 'again' looks closer, for the dead.
if seen.remaining >= 0 and #seen.mine == 0 and mode ~= 'again' then return blocked(seen) end

--@include queue

local function confirm(fence)
  for i = 2, count + 1 do redis.call('PEXPIRE', KEYS[i], ttl) end
  return {'granted', fence, ttl, stamp, '-'}
end

if #seen.mine == count then return confirm(seen.fence) end
-- Some of the names were lost: what is left is no lease.
if #seen.mine > 0 then redis.call('DEL', unpack(seen.mine)) end

local bodies = bodies_of(count)
advance(bodies, '-', string.match(owner, '^[^.]+'))
seen = look()
if #seen.mine == count then return confirm(seen.fence) end
if seen.remaining < 0 and redis.call('EXISTS', unpack(KEYS, count + 2)) == 0 then
  local fence = mint(time)
  hold(bodies, owner, fence, annotation, ttl)
  return {mode == 'again' and 'regranted' or 'granted', fence, ttl, stamp, '-'}
end
-- The names are free, but for somebody who came first and waits for more than them.
if seen.remaining < 0 then seen.remaining = least_wait(bodies) end
return blocked(seen)
