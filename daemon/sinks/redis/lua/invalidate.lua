-- Invalidates many keys at once: the design's table, for each key.
--   KEYS   key 1 ... key n, marker 1 ... marker n[, the counter of a channel]
--   ARGV   epoch, tombstone lifetime in ms, flags[|channel], trust_since in ms[ and a snapshot], tokens
--          (one text for all keys, or one per key; those of a settle carry their 's')
--   channel   each key is published there, under the next number of the counter; of a settle or renewal only what was
--             deleted
--   snapshot  of the daemon, a recent one: lets tombstones with many tokens drop what it has seen
--   flags  'i', 's' or 'r' (invalidate, settle, renew), then any of the letters below. To this script the three are one:
--          a settle's tokens are born settled, and whatever is found gets its full lifetime again
--          f  a filled marker may prove freshness (trust_filled)
--          u  unconditional: nothing proves freshness, nothing counts as replayed
--          k<ms>  mode: stale: the value stays for this grace, marked stale (readers use evictd_get)
--          h  tell which keys were deleted
--          o  of one key: only what a checked fill was the last to leave a marker for; anything else is left alone, and counts as absent
-- Returns {deleted, kept, replayed, tombstones refused}, with 'h' followed by the number of each key that was deleted, growing.
-- Those not counted were absent.
-- A call that met markers which take long ends early: {that reply, of how many keys}, from the first on. The others were left as they are.
--
-- Deletes before it writes tombstones, all keys of the call at once, so that a Redis at its memory limit
-- still deletes; after that first write, Redis lets the rest of a script pass its limit.

local function parse_command(args)
  local flags, channel = string.match(args[3], '^([^|]*)|?(.*)$')
  local since, snapshot = string.match(args[4], '^(%d+) ?(.*)$')
  return {
    flags = flags,
    channel = channel ~= '' and channel or nil,
    snapshot = snapshot ~= '' and snapshot or nil,
    epoch = args[1],
    lifetime = args[2],
    act = string.sub(flags, 1, 1),
    trust_filled = string.find(flags, 'f', 2, true) ~= nil,
    unconditional = string.find(flags, 'u', 2, true) ~= nil,
    hits = string.find(flags, 'h', 2, true) and {} or nil,
    filled_only = string.find(flags, 'o', 2, true) ~= nil,
    grace = tonumber(string.match(flags, 'k(%d+)')),
    trust_since = tonumber(since),
  }
end

-- Tells the channel's subscribers what they must not keep. The numbers have no holes, so whoever misses one knows;
-- 0 when a full Redis could not count: nobody can know then, and everybody drops all.
--   {"seq":17,"key":"product:1","version":"1042"}    or "tag", or "counter"
--   {"seq":18,"resync":true}
local function announce(c, counter, what, name, tokens)
  local number = redis.pcall('INCR', counter)
  if type(number) ~= 'number' then number = 0 end
  local text = '{"seq":' .. string.format('%.0f', number)
  if what == 'resync' then
    text = text .. ',"resync":true}'
  else
    local version = string.gsub(tokens, '[sd]', '')
    text = text .. ',"' .. what .. '":' .. cjson.encode(name) .. ',"version":' .. cjson.encode(version) .. '}'
  end
  redis.call('PUBLISH', c.channel, text)
end

-- SET marker, lifetime. Returns 1 when a full Redis refuses it, else 0.
local function write_marker(name, text, lifetime)
  local reply = redis.pcall('SET', name, text, 'PX', lifetime)
  if not reply.err then return 0 end
  if string.find(reply.err, 'OOM', 1, true) then return 1 end
  error(reply)
end

-- The longer of `lifetime` and what a marker still has to live: a tombstone never gets shorter.
local function at_least(name, lifetime)
  local left = redis.call('PTTL', name)
  if left > tonumber(lifetime) then return string.format('%.0f', left) end
  return lifetime
end

-- mode: stale. The values stay, for the grace at most; their markers say so, and outlive them. A value that is
-- evicted early is a miss; a marker that is evicted early would let a stale value pass for a fresh one,
-- which is why this mode asks for a Redis that does not evict what has a lifetime.
-- Returns how many values there were. `numbers`: of the doomed in their call.
local function keep_stale(doomed, numbers, texts, lifetimes, c)
  local there = 0
  for i = 1, #doomed do
    local left = redis.call('PTTL', doomed[i])
    -- Also of what lives no longer, or is not there: a write that a full Redis allows, so that the markers may pass its
    -- limit. A value whose marker were refused would go on as fresh.
    redis.call('PEXPIRE', doomed[i], (left == -1 or left > c.grace) and c.grace or left)
    if left ~= -2 then
      there = there + 1
      if c.hits then c.hits[there] = numbers[i] end
      texts[i] = texts[i] .. ' k'
      if tonumber(lifetimes[i]) < c.grace + 1000 then lifetimes[i] = c.grace + 1000 end
    end
  end
  return there
end

-- One by one, where it has to be told which of them were there.
local function unlink_each(doomed, numbers, hits)
  for i = 1, #doomed do
    if redis.call('UNLINK', doomed[i]) == 1 then hits[#hits + 1] = numbers and numbers[i] or i end
  end
  return #hits
end

local function reply_of(deleted, kept, replayed, refused, hits)
  local reply = {deleted, kept, replayed, refused}
  if hits then
    for i = 1, #hits do reply[4 + i] = hits[i] end
  end
  return reply
end

-- Where the tokens of a tombstone end that holds transactions alone, perhaps with what fills need besides: the position
-- behind them. nil: anything else is for decide(). Searches for single letters only; a pattern would cost more than all the rest.
local function end_of_transactions(text, first)
  local find = string.find
  local letter = string.byte(text, first)
  if not letter or letter ~= 94 and letter ~= 126 and (letter < 48 or letter > 57) then return nil end  -- '^', '~', a digit
  if find(text, 'd', first, true) or find(text, 'v', first, true) then return nil end
  local stop = find(text, ' ', first, true)
  if (stop or #text) - first > TOKENS_BYTES_MAX then return nil end
  if not stop then return #text + 1 end
  if string.byte(text, stop + 1) ~= 110 or find(text, ' ', stop + 1, true) then return nil end  -- 'n'
  return stop
end

-- Where among tokens `id` stands (its last letter) and whether it is settled; nil when it is not there, or not found soon: parts of
-- others look like it, and no tombstone of ours has more than so many.
local function find_token(text, id, first, stop)
  local from = first
  for _ = 1, TOKENS_READ_MAX do
    local begin, last = string.find(text, id, from, true)
    if not begin or last >= stop then return nil end
    local before, behind = string.byte(text, begin - 1), string.byte(text, last + 1)
    if before == 44 or begin == first then  -- ','
      if behind == nil or behind == 44 or behind == 32 then return last, false end  -- ' '
      if behind == 115 then return last, true end  -- 's'
    end
    from = begin + 1
    work = work + 2
  end
end

-- Whether a floor at the front of these tokens asks for `id` as well.
local function floor_covers(text, id, first)
  if string.byte(text, first) ~= 94 then return false end
  local sign, floor = string.match(text, '^(~?)(%d+)', first + 1)
  if not floor or sign ~= string.match(id, '^~?') then return false end
  local ahead = tonumber(floor) - tonumber(string.sub(id, #sign + 1))
  if sign == '~' then return ahead % 4294967296 < 2147483648 end
  return ahead >= 0
end

-- The verdicts that come by the million, without taking a marker apart: a tombstone of the same epoch that has these
-- transactions, or room for them. nil: decide() must look closer.
-- `wanted` are transactions, all of them born settled or none. Not for unconditional ones.
-- Returns as decide(), and then whether the tombstone may live longer than one written now.
local function decide_quickly(text, wanted, prefix, act)
  local born_settled = string.byte(wanted, -1) == 115
  if #text > MARKER_MAX then return nil end
  local first = #prefix + 1
  local stop = string.sub(text, 1, first - 1) == prefix and end_of_transactions(text, first)
  if not stop then return nil end
  local all_there, wants_settled, more = true, false, ''
  local is_long = stop - first > WORK_TEXT_MIN / 2
  for id in string.gmatch(wanted, '~?%d+') do
    if is_long then work = work + #text / WORK_LETTERS end
    local last, settled = find_token(text, id, first, stop)
    if not last and act == 's' and floor_covers(text, id, first) then
      -- Settled after others have taken its place: deleted once more, and not put back in their place.
      wants_settled = true
    elseif not last then
      all_there = false
      more = more .. ',' .. id .. (born_settled and 's' or '')
    elseif born_settled and not settled then
      wants_settled = true
      text, stop = string.sub(text, 1, last) .. 's' .. string.sub(text, last + 1), stop + 1
    end
  end
  if all_there then
    if not wants_settled then return 'replayed' end
    return 'delete', text, stop <= #text
  end
  -- No more than TOKENS_MAX of this length.
  local length = (string.find(wanted, ',', 1, true) or #wanted + 1) - (born_settled and 1 or 0)
  if stop - first + 1 + #more > TOKENS_MAX * length then return nil end
  if stop > #text then return 'delete', text .. more end
  return 'delete', string.sub(text, 1, stop - 1) .. more .. string.sub(text, stop), true
end

-- The same of what the usual fill left: filled under a snapshot. Whether that saw a transaction is plain from its text.
local function decide_filled(text, wanted, fresh, c)
  if #text > FILLED_MAX then return 'delete', fresh end
  local version, xmin, xmax, running, filled, behind = string.match(text, '^f ((%d+):(%d+):([%d,]*)) (%d+)()')
  if not version or behind <= #text and not string.find(text, '^ d%d+$', behind) then return nil end
  filled, xmin, xmax = exact(filled), exact(xmin), exact(xmax)
  if not filled or not xmin or not xmax or xmin > xmax or string.find(wanted, '~', 1, true) then return nil end
  if filled < c.trust_since then return 'delete', fresh end
  local proven, newest = c.trust_filled, 0
  if proven then
    for digits in string.gmatch(wanted, '%d+') do
      work_of_text(running)
      local xid = exact(digits)
      if xid and xid > newest then newest = xid end
      if not xid or xid >= xmax or xid >= xmin and string.find(',' .. running .. ',', ',' .. digits .. ',', 1, true) then proven = false end
    end
  end
  if newest > 0 and is_ahead(xmax, newest, c) then return 'delete', fresh end
  if proven then return 'kept' end
  return 'delete', fresh .. ' n' .. version
end

-- A marker that stays as it is must still live as long as one written now: readers count from here. Redis 7 can do that in
-- one call (and says its number since then), which is half of what a replay costs.
local function lengthen(name, lifetime)
  if redis.REDIS_VERSION_NUM then
    redis.call('PEXPIRE', name, lifetime, 'GT')
  elseif redis.call('PTTL', name) < tonumber(lifetime) then
    redis.call('PEXPIRE', name, lifetime)
  end
end

-- Transactions alone, as decide_quickly() wants them.
local QUICK = '^~?%d[~%d,s]*$'

-- What an invalidation does to a key whose marker is there.
--   wanted    its tokens; `is_quick`: they are as QUICK says
--   fresh     the text of a tombstone of them alone
-- Returns 'kept', 'replayed', or 'delete', the marker's new text, and whether that may live longer than one written now.
local function judge(text, wanted, is_quick, fresh, prefix, c)
  if #text > WORK_TEXT_MIN then work_of_text(text) end  -- asked here: a call for each key would be dearer
  local letter = not c.unconditional and string.byte(wanted)
  if text == fresh and letter and letter ~= 94 and letter ~= 118 then
    return 'replayed'  -- the tombstone of this very invalidation; a floor ('^', in front) or a row version proves none
  end
  if letter and is_quick then
    local verdict, detail, keeps_lifetime
    if string.byte(text) == 102 then  -- 'f'
      verdict, detail = decide_filled(text, wanted, fresh, c)
    else
      verdict, detail, keeps_lifetime = decide_quickly(text, wanted, prefix, c.act)
    end
    if verdict then return verdict, detail, keeps_lifetime end
  end
  local verdict, detail = decide(text, wanted, c)
  -- A tombstone never gets shorter.
  return verdict, detail, string.byte(text) == 116
end

-- The markers of a call, each as read_marker() has it, nil when there are none; and how many of the keys they are about, fewer than `n`
-- where that is more than a call should read. At the first that is not there all others are asked for
-- at once: most often there are none of them either, and that is cheaper than to read them. A user that may not ask has them read.
local function read_all(keys, first, n)
  local pcall = redis.pcall
  local found, bytes, last, has_asked = nil, 0, first + n - 1, false
  for i = 1, n do
    local at = first + i - 1
    local text = pcall('GETRANGE', keys[at], '0', MARKER_END)
    if type(text) ~= 'string' then text = read_marker(keys[at]) or '' end
    if text ~= '' then
      found = found or {}
      found[i] = text
      bytes = bytes + #text
      if bytes > READ_MAX then return found, i end
    elseif not has_asked and at < last then
      has_asked = true
      if pcall('EXISTS', unpack(keys, at + 1, last)) == 0 then break end
    end
  end
  return found, n
end

-- The reply about the first `done` of `n` keys.
local function reply_of_some(reply, done, n)
  return done == n and reply or {reply, done}
end

-- `members`: nil, or a table that receives the keys that were deleted or absent.
local function invalidate_keys(keys, first, asked, args, c, members)
  local call, pcall, find = redis.call, redis.pcall, string.find
  local found, n = read_all(keys, first + asked, asked)
  local shared = #args == 5 and args[5] or nil
  local prefix = 't ' .. c.epoch .. ' '
  local lifetime = c.lifetime

  if not found and not c.grace and not c.channel then
    -- The common case, kept lean: no markers yet.
    local deleted
    if c.hits then
      deleted = unlink_each({unpack(keys, first, first + n - 1)}, nil, c.hits)
    else
      deleted = call('UNLINK', unpack(keys, first, first + n - 1))
    end
    local refused = 0
    local text = shared and prefix .. shared
    local offset = first + n - 1
    for i = 1, n do
      local reply = pcall('SET', keys[offset + i], text or prefix .. args[4 + i], 'PX', lifetime)
      if reply.err then
        if not string.find(reply.err, 'OOM', 1, true) then error(reply) end
        refused = refused + 1
      end
    end
    if members then
      for i = 1, n do members[i] = keys[first + i - 1] end
    end
    return reply_of(deleted, 0, 0, refused, c.hits)
  end

  local kept, replayed, refused = 0, 0, 0
  local numbers = c.hits and {}
  local doomed, names, texts, lifetimes = {}, {}, {}, {}
  local told = {}
  local fresh = shared and prefix .. shared
  local is_quick = shared and find(shared, QUICK)
  for i = 1, n do
    local wanted = shared or args[4 + i]
    local name = keys[first + asked + i - 1]
    local text = found and found[i]
    local verdict, detail, keeps_lifetime = 'delete', fresh or prefix .. wanted, false
    if text then
      verdict, detail, keeps_lifetime = judge(text, wanted, is_quick or not shared and find(wanted, QUICK), detail, prefix, c)
    end
    -- What is kept or was done before is told as well: a process may hold the value before it, and it was perhaps a
    -- reader's fill or a writer's own invalidation that was here first. They tell nobody.
    if c.channel and (verdict == 'delete' or c.act == 'i') then told[#told + 1] = i end
    if verdict == 'kept' then
      kept = kept + 1
      lengthen(name, lifetime)
    elseif verdict == 'replayed' then
      replayed = replayed + 1
      lengthen(name, lifetime)
    else
      local at = #doomed + 1
      doomed[at] = keys[first + i - 1]
      if c.hits then numbers[at] = i end
      names[at] = name
      texts[at] = detail
      lifetimes[at] = keeps_lifetime and at_least(name, lifetime) or lifetime
    end
    if work > WORK_MAX then
      n = i
      break
    end
  end
  local deleted = 0
  if #doomed > 0 and c.grace then
    deleted = keep_stale(doomed, numbers, texts, lifetimes, c)
    for i = 1, #doomed do refused = refused + write_marker(names[i], texts[i], lifetimes[i]) end
  elseif #doomed > 0 then
    deleted = c.hits and unlink_each(doomed, numbers, c.hits) or call('UNLINK', unpack(doomed))
    for i = 1, #doomed do refused = refused + write_marker(names[i], texts[i], lifetimes[i]) end
  end
  for i = 1, #told do announce(c, keys[#keys], 'key', keys[first + told[i] - 1], shared or args[4 + told[i]]) end
  if members then
    for i = 1, #doomed do members[i] = doomed[i] end
  end
  return reply_of_some(reply_of(deleted, kept, replayed, refused, c.hits), n, asked)
end

local function invalidate(keys, args)
  local c = parse_command(args)
  if c.filled_only and string.sub(read_marker(keys[2]) or '', 1, 2) ~= 'f ' then return reply_of(0, 0, 0, 0, c.hits) end
  return invalidate_keys(keys, 1, math.floor(#keys / 2), args, c, nil)
end
