-- Shared by the scripts that grant: the clock of the server, and fences.
-- A fence must not fall even if the clock does; a week is longer than any step back worth surviving.
local FENCE_TTL_MS = 7 * 24 * 3600 * 1000

-- Microseconds since 1970, as text: they fit a double exactly, but tostring() would round them.
local function exact(microseconds)
  return string.format('%.0f', microseconds)
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Time as the floor lets fences grow across FLUSHALL, a restart without data, or an empty replica.
local function mint(time)
  local last = tonumber(redis.call('GET', KEYS[1]) or 0)
  local fence = exact(math.max(last + 1, time))
  redis.call('SET', KEYS[1], fence, 'PX', FENCE_TTL_MS)
  return fence
end
