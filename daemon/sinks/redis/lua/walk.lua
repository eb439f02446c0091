-- Walking a tag's set, or the keys of a pattern, takes many calls. These three hold a walk together.
-- What is walked has a marker of its own, always a tombstone:
--   begin    leaves it BEFORE the first key is touched, so that a fill which races the walk is rejected
--   members  invalidates one page of a set's members and takes the deleted ones out of the set, atomically
--   finish   notes in it that the walk for these tokens was finished ('d'), so that a replay does nothing
-- ARGV is that of invalidate.lua everywhere; KEYS of begin and finish are markers, and the channel's counter.
-- Flags besides: 'w': begin announces the tags; 'y': finish announces that patterns are gone.

-- The marker of a walk -> list of tokens, table by id, needed snapshot. Another epoch's counts as none.
local function walk_tokens(name, c)
  local text = read_marker(name)
  work_of_text(text or '')
  local marker = text and parse_marker(text)
  if marker and marker.kind == 't' and same_epoch(marker.a, c) then
    local list, by_id = parse_tokens(marker.b, true)
    if list then return list, by_id, marker.need end
  end
  return {}, {}, nil
end

-- Puts the tokens into the marker, each with `flag`; with any flag the walk is over, and they get the 's' they were
-- born with as well. Not before: a settle walk that is cut off would pass for finished. `a`: the marker's second part, instead of
-- the epoch. Returns tombstones refused.
local function mark_walk(name, wanted, c, flag, a)
  -- A write that a full Redis allows; after it, the SET below may pass the memory limit.
  local lifetime = at_least(name, c.lifetime)
  redis.call('PEXPIRE', name, lifetime)
  local have, by_id, need = walk_tokens(name, c)
  for _, token in ipairs(parse_tokens(wanted) or {}) do
    local there = by_id[token.id]
    if not there then
      there = {id = token.id, flags = ''}
      have[#have + 1] = there
      by_id[token.id] = there
    end
    there.flags = add_flag(there.flags, flag)
    if flag ~= '' and string.find(token.flags, 's', 1, true) then there.flags = add_flag(there.flags, 's') end
  end
  have, need = compacted(have, need, c.snapshot)
  return write_marker(name, marker_text({kind = 't', a = a or c.epoch, b = tokens_text(have), need = need}), lifetime)
end

-- How many of KEYS are markers: all but the counter of the channel.
local function markers_of(keys, c)
  return c.channel and #keys - 1 or #keys
end

-- 'evictd:{tag:category:5}' -> 'category:5'
local function tag_of_marker(name)
  return string.match(name, '^evictd:{tag:(.*)}$') or string.match(name, '^evictd:tag:(.*)$') or name
end

-- Flag 'c': the last marker is common to all the others, whose walks are finished only where it says so too.
-- Returns {1 when every walk for these tokens was finished before, tombstones refused, index (from 0) of each marker
-- whose walk was ...}.
local function walk_begin(keys, args)
  local c = parse_command(args)
  local flag = c.act == 's' and 's' or 'd'
  local wanted = parse_tokens(args[5])
  local function is_finished(name)
    if c.unconditional or not wanted then return false end
    local _, by_id = walk_tokens(name, c)
    for _, token in ipairs(wanted) do
      local there = remembered(by_id, token.id)
      if not there or not string.find(there.flags, flag, 1, true) then return false end
      local born_settled = string.find(token.flags, 's', 1, true)
      if born_settled and not string.find(there.flags, 's', 1, true) then return false end
    end
    return true
  end
  local reply = {1, 0}
  -- No flag yet: it is not finished.
  local function begin(name)
    reply[1] = 0
    reply[2] = reply[2] + mark_walk(name, args[5], c, '')
    if c.channel and string.find(c.flags, 'w', 2, true) then
      announce(c, keys[#keys], 'tag', tag_of_marker(name), args[5])
    end
  end
  local n = markers_of(keys, c)
  local common = string.find(c.flags, 'c', 2, true) and keys[n]
  local again = common and not is_finished(common)
  for i = 1, common and n - 1 or n do
    if again or not is_finished(keys[i]) then
      begin(keys[i])
    else
      lengthen(keys[i], c.lifetime)
      reply[#reply + 1] = i - 1
    end
  end
  if common and reply[1] == 0 then
    begin(common)
  elseif common then
    lengthen(common, c.lifetime)
  end
  return reply
end

local function walk_finish(keys, args)
  local c = parse_command(args)
  local refused = 0
  for i = 1, markers_of(keys, c) do
    refused = refused + mark_walk(keys[i], args[5], c, 'd')
    if c.act == 's' then refused = refused + mark_walk(keys[i], args[5], c, 's') end
  end
  if c.channel and string.find(c.flags, 'y', 2, true) then announce(c, keys[#keys], 'resync') end
  return {1, refused}
end

-- KEYS: the set, then keys and markers as for invalidate. Flag 'm' takes the deleted and absent members
-- out of the set; those kept or replayed stay in it, for they may hold a value.
local function walk_members(keys, args)
  local c = parse_command(args)
  local gone = string.find(c.flags, 'm', 2, true) and {} or nil
  local reply = invalidate_keys(keys, 2, math.floor((#keys - 1) / 2), args, c, gone)
  if gone and #gone > 0 then redis.call('SREM', keys[1], unpack(gone)) end
  return reply
end

-- Lazy tags: no set, nothing to walk. KEYS: their markers[, the channel's counter]; tokens one text for all, or one
-- per marker. A marker never gets shorter: it has to outlive every value that carries the tag (reader.lua).
-- Values filled before the source was first seen as it is now prove nothing (a server that came back may have been set back, and
-- gives ids away again): readers judge them, so the marker says since when, as one does that a fill made. Nor does anything that was
-- filled before an unconditional order: without a snapshot that asks for nothing ('^0'), and yet nobody knows what was missed.
-- Returns what invalidate.lua does; a tag counts as deleted when it had a marker, so that some value may carry it.
local function lazy_tags(keys, args)
  local c = parse_command(args)
  local reply = {0, 0, 0, 0}
  local n = markers_of(keys, c)
  for i = 1, n do
    local name, wanted = keys[i], #args == 5 and args[5] or args[4 + i]
    local known = not c.unconditional
    local _, by_id = walk_tokens(name, c)
    for _, token in ipairs(parse_tokens(wanted) or {}) do known = known and remembered(by_id, token.id) ~= nil end
    if known then
      reply[3] = reply[3] + 1
      lengthen(name, c.lifetime)
    else
      reply[1] = reply[1] + redis.call('EXISTS', name)
      local text = read_marker(name)
      local made = exact(text and string.match(text, '^t %*(%d+) ') or '')
      local since = math.max(made or 0, c.trust_since, c.unconditional and now_ms() + 1 or 0)
      reply[4] = reply[4] + mark_walk(name, wanted, c, '', since > 0 and '*' .. string.format('%.0f', since) or nil)
      if c.channel then announce(c, keys[#keys], 'tag', tag_of_marker(name), wanted) end
    end
    if work > WORK_MAX then return reply_of_some(reply, i, n) end
  end
  return reply
end
