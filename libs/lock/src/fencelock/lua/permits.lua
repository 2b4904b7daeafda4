-- Shared by the other scripts: names that several hold at once, each with a lease of its own.
--
-- fencelock:l:<body>          then is "*<limit> <fence> <annotation>" of the latest, and lasts as long
--                             as the last of them
-- fencelock:p:<body>          sorted set of the owners, by the server's ms at which their leases end
-- fencelock:r:<owner>:<body>  one of them: "<owner> <fence> <annotation>", expires with its lease
--
-- A lock for sharing is a semaphore without a limit. The limit is that of whoever asks; 0 is none.
local PERMITS, PERMIT = 'fencelock:p:', 'fencelock:r:'

local function permit_of(body, owner) return PERMIT .. owner .. ':' .. body end

-- MGET, since a key that somebody else put there, of another type, must not stop the script.
local function value_of(key) return redis.call('MGET', key)[1] end

local function is_shared(value) return value and string.sub(value, 1, 1) == '*' end

local function ms_of(time) return math.floor(time / 1000) end

-- What is needed only where somebody shares is made then: most that lock share nothing.
local made
local function sharing()
  if made then return made end

  -- One more may share the name, together with those whose leases still run.
  local function admits(body, limit, time)
    local value = value_of(LOCK .. body)
    if not is_shared(value) then return not value and redis.call('EXISTS', LOCK .. body) == 0 end
    if limit == 0 then return true end
    return redis.call('ZCOUNT', PERMITS .. body, '(' .. exact(ms_of(time)), '+inf') < limit
  end

  -- Milliseconds until the next of them ends if it is not renewed; -1 if there is none.
  local function next_end(body, time)
    local first = redis.call('ZRANGE', PERMITS .. body, '(' .. exact(ms_of(time)), '+inf', 'BYSCORE',
      'LIMIT', 0, 1, 'WITHSCORES')
    return first[2] and tonumber(first[2]) - ms_of(time) or -1
  end

  -- The lock key lasts as long as the last permit. `value` replaces what it says, if given.
  local function mark(body, value)
    local last = redis.call('ZRANGE', PERMITS .. body, 0, 0, 'REV', 'WITHSCORES')
    if not last[2] then return redis.call('DEL', LOCK .. body, PERMITS .. body) end
    if value then
      redis.call('SET', LOCK .. body, value, 'PXAT', last[2])
    else
      redis.call('PEXPIREAT', LOCK .. body, last[2])
    end
    redis.call('PEXPIREAT', PERMITS .. body, last[2])
  end

  local function stretch(body, owner, lease_ms, time)
    redis.call('ZADD', PERMITS .. body, exact(ms_of(time) + lease_ms), owner)
  end

  local function give(body, owner, fence, annotation, lease_ms, limit, time)
    -- What is left of a name that somebody deleted counts no more.
    if redis.call('EXISTS', LOCK .. body) == 0 then redis.call('DEL', PERMITS .. body) end
    redis.call('SET', permit_of(body, owner), owner .. ' ' .. fence .. ' ' .. annotation, 'PX', lease_ms)
    stretch(body, owner, lease_ms, time)
    mark(body, '*' .. limit .. ' ' .. fence .. ' ' .. annotation)
  end

  local function share(bodies, owner, fence, annotation, lease_ms, limit, time)
    for _, body in ipairs(bodies) do give(body, owner, fence, annotation, lease_ms, limit, time) end
  end

  -- What a permit says, or false if the owner has none.
  local function permit(body, owner)
    local value = value_of(permit_of(body, owner))
    return owned(value, owner) and is_shared(value_of(LOCK .. body)) and value
  end

  local function take_back(body, owner)
    redis.call('DEL', permit_of(body, owner))
    redis.call('ZREM', PERMITS .. body, owner)
    mark(body)
  end

  made = {
    admits = admits, next_end = next_end, mark = mark, stretch = stretch,
    share = share, permit = permit, take_back = take_back,
  }
  return made
end
