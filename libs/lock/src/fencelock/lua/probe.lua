-- Try every command that the other scripts use, so that a missing right is found before one of them
-- stops half-way. What it writes is gone when it ends.
--
-- KEYS  fence; a lock, a queue, a hash of clients and a set of permits that nobody else uses
-- ARGV  channel of this client
-- Reply the time of the server in us, and the commands that were refused, each followed by why.
local fence, lock, queue, clients, permits = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refused = {'0'}

local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  local name = string.lower((...))
  refused[#refused + 1] = name
  refused[#refused + 1] = reply.err
end

local time = try('TIME')
if time then refused[1] = string.format('%.0f', time[1] * 1000000 + time[2]) end
local last = try('GET', fence)
if type(last) == 'string' then
  try('SET', fence, last, 'PX', 7 * 24 * 3600 * 1000)
else
  try('SET', fence, 1, 'PX', 1000)
  try('DEL', fence)
end
try('SET', lock, 'probe', 'PX', 1000)
try('EXISTS', lock)
try('MGET', lock)
try('PTTL', lock)
try('PEXPIRE', lock, 1000)
try('RPUSH', queue, 'a', 'b', 'c')
try('LPOS', queue, 'b')
try('LINSERT', queue, 'BEFORE', 'b', 'd')
try('LRANGE', queue, 0, 1)
try('LINDEX', queue, 0)
try('LSET', queue, 0, '*a')
try('LREM', queue, 1, 'b')
try('LPOP', queue)
try('LTRIM', queue, 1, -1)
try('HINCRBY', clients, 'a', 1)
try('HSET', clients, '!a', 1)
try('HEXISTS', clients, '!a')
try('HLEN', clients)
try('HRANDFIELD', clients, 5)
try('HDEL', clients, 'a')
-- What only names need that several hold at once.
try('ZADD', permits, 1, 'a')
try('ZCOUNT', permits, '(0', '+inf')
try('ZRANGE', permits, '(0', '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
try('PEXPIREAT', lock, string.format('%.0f', refused[1] / 1000 + 1000))
try('ZREM', permits, 'a')
try('DEL', lock, queue, clients, permits)
try('PUBSUB', 'NUMSUB', ARGV[1])
try('PUBLISH', ARGV[1], 'probe')
return refused
