-- Shared by the other scripts: what is stored, the clock of the server, and fences.
--
-- fencelock:l:<body>  who holds the name: "<owner> <fence> <annotation>", expires with the lease
-- fencelock:q:<body>  list of tickets, first come first served
-- fencelock:w:<body>  hash of the clients that have tickets there
-- fencelock:fence     the last fence minted on this server
-- fencelock:c:<id>    channel of one client process; an owner is "<id>.<token>"
-- What several hold at once is in permits.lua.
local LOCK, QUEUE, CLIENTS = 'fencelock:l:', 'fencelock:q:', 'fencelock:w:'
local CHANNEL = 'fencelock:c:'
-- A fence must not fall even if the clock does; a week is longer than any step back worth surviving.
local FENCE_TTL_MS = 7 * 24 * 3600 * 1000

-- Microseconds since 1970, as text: they fit a double exactly, but tostring() would round them.
local function exact(microseconds)
  return string.format('%.0f', microseconds)
end

-- The time in microseconds since 1970, and as text, which is put together for less than exact() takes.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2], time[1] .. string.sub('00000' .. time[2], -6)
end

-- Time as the floor lets fences grow across FLUSHALL, a restart without data, or an empty replica.
-- Nearly always the clock is ahead of the last fence, and one command does. `text` is the time, if
-- it was written out before.
local function mint(time, text)
  text = text or exact(time)
  local old = redis.call('SET', KEYS[1], text, 'PX', FENCE_TTL_MS, 'GET')
  local last = tonumber(old or 0) or 0
  local fence = math.max(last + 1, time)
  if fence == time then return text end
  redis.call('SET', KEYS[1], exact(fence), 'PX', FENCE_TTL_MS)
  return exact(fence)
end

local function owned(value, owner)
  return value and string.sub(value, 1, #owner + 1) == owner .. ' '
end

local function client_of(owner) return string.match(owner, '^[^.]+') end
