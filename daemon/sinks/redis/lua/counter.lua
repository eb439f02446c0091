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
local COUNTER_MAX = '20'  -- letters, of 64 bits and a sign

-- Whether what a pattern found is a counter, or gone by now: a value that is cached has no memory, but a marker of that
-- name, which must stay.
local function may_be_counter(name)
  local text = redis.pcall('GETRANGE', name, '0', COUNTER_MAX)
  -- Nothing there, or nothing in it; or a user that may not GETRANGE.
  if type(text) ~= 'string' or text == '' then text = redis.pcall('GET', name) end
  return text == false or type(text) == 'string' and #text <= tonumber(COUNTER_MAX) and string.find(text, '^%-?%d+$') ~= nil
end

-- Returns whether it was raised; nil when it is no counter.
local function raise_one(counter, memory, wanted, now, c)
  local by_pattern = string.find(c.flags, 'p', 2, true)
  if by_pattern and not may_be_counter(counter) then return nil end
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
  if fresh == 0 then return false end
  local raised = redis.pcall('INCRBY', counter, fresh)
  if type(raised) == 'number' then return true end
  if by_pattern then return nil end
  -- Whatever it was, it was no number: the time is one that nobody had before.
  redis.call('SET', counter, string.format('%.0f', now))
  return true
end

local function raise(keys, args)
  local c = parse_command(args)
  local n = math.floor(#keys / 2)
  local now = now_ms()
  local reply = {0, 0, 0, 0}
  for i = 1, n do
    local wanted = #args == 5 and args[5] or args[4 + i]
    local raised = raise_one(keys[i], keys[n + i], wanted, now, c)
    if raised then
      reply[1] = reply[1] + 1
      if c.channel then announce(c, keys[#keys], 'counter', keys[i], wanted) end
    elseif raised == false then
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
