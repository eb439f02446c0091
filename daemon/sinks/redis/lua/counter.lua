-- Raises namespace counters (`bump`): readers put the number into their keys, product:{id}:v{n}, so a raised
-- counter turns all of them over at once. Sent when the transaction is visible, so whoever reads the new number
-- reads the new rows.
--   KEYS   counter 1 ... counter n, memory 1 ... memory n[, the counter of a channel]
--   ARGV   as invalidate.lua. Flag 'p': found by a pattern, so what is no number is no counter, and left alone
-- The memory of a counter is a sorted set of the transactions that raised it, by the time they did: each counts
-- once, however often it is replayed. It is bounded; what it forgot raises the counter again, which costs
-- misses and nothing else.
-- Returns {raised, 0, replayed, 0}.

local REMEMBERED_MAX = 10000
local REMEMBERED_MS = 3600000

local function raise(keys, args)
  local c = parse_command(args)
  local n = math.floor(#keys / 2)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local reply = {0, 0, 0, 0}
  for i = 1, n do
    local counter, memory = keys[i], keys[n + i]
    local wanted = #args == 5 and args[5] or args[4 + i]
    -- A write that a full Redis allows; the others may pass the limit after it.
    local trimmed = redis.pcall('ZREMRANGEBYSCORE', memory, '-inf', now - REMEMBERED_MS)
    if type(trimmed) ~= 'number' then redis.call('UNLINK', memory) end  -- was no sorted set
    local fresh = 0
    if c.unconditional then
      fresh = 1
    else
      for token in string.gmatch(wanted, '[^,]+') do
        fresh = fresh + redis.call('ZADD', memory, 'NX', now, c.epoch .. ' ' .. token)
      end
      redis.call('ZREMRANGEBYRANK', memory, 0, -REMEMBERED_MAX - 1)
      redis.call('PEXPIRE', memory, REMEMBERED_MS)
    end
    if fresh > 0 then
      local raised = redis.pcall('INCRBY', counter, fresh)
      -- Whatever it was, it was no number: the time is one that nobody had before.
      local is_counter = type(raised) == 'number' or not string.find(c.flags, 'p', 2, true)
      if type(raised) ~= 'number' and is_counter then redis.call('SET', counter, string.format('%.0f', now)) end
      if is_counter then
        reply[1] = reply[1] + 1
        if c.channel then announce(c, keys[#keys], 'counter', counter, wanted) end
      end
    else
      reply[3] = reply[3] + 1
    end
  end
  return reply
end

-- After every connect: subscribers may have missed something. KEYS: the channels' counters; ARGV: the channels.
local function resync(keys, args)
  for i = 1, #keys do announce({channel = args[i]}, keys[i], 'resync') end
  return #keys
end
