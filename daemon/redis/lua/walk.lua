-- Walking a tag's set, or the keys of a pattern, takes many calls. These three hold a walk together.
-- What is walked has a marker of its own, always a tombstone:
--   begin    leaves it BEFORE the first key is touched, so that a fill which races the walk is rejected
--   members  invalidates one page of a set's members and takes the deleted ones out of the set, atomically
--   finish   notes in it that the walk for these tokens was finished ('d'), so that a replay does nothing
-- ARGV is that of invalidate.lua everywhere; KEYS of begin and finish are markers.

-- The marker of a walk -> list of tokens, table by id, needed snapshot. Another epoch's counts as none.
local function walk_tokens(name, c)
  local text = redis.call('GET', name)
  local marker = text and parse_marker(text)
  if marker and marker.kind == 't' and same_epoch(marker.a, c) then
    local list, by_id = parse_tokens(marker.b)
    if list then return list, by_id end
  end
  return {}, {}
end

-- Puts the tokens into the marker, each with `flag` and the 's' it was born with. Returns tombstones refused.
local function mark_walk(name, args, c, flag)
  -- A write that a full Redis allows; after it, the SET below may pass the memory limit.
  local lifetime = at_least(name, c.lifetime)
  redis.call('PEXPIRE', name, lifetime)
  local have, by_id = walk_tokens(name, c)
  for _, token in ipairs(parse_tokens(args[5]) or {}) do
    local there = by_id[token.id]
    if not there then
      there = {id = token.id, flags = ''}
      have[#have + 1] = there
      by_id[token.id] = there
    end
    there.flags = add_flag(there.flags, flag)
    if string.find(token.flags, 's', 1, true) then there.flags = add_flag(there.flags, 's') end
  end
  return write_marker(name, 't ' .. c.epoch .. ' ' .. tokens_text(have), lifetime)
end

-- Returns {1 when every walk for these tokens was finished before, tombstones refused}.
local function walk_begin(keys, args)
  local c = parse_command(args)
  local flag = c.act == 's' and 's' or 'd'
  local finished, refused = 1, 0
  for _, name in ipairs(keys) do
    local _, by_id = walk_tokens(name, c)
    for _, token in ipairs(parse_tokens(args[5]) or {}) do
      local there = by_id[token.id]
      local born_settled = string.find(token.flags, 's', 1, true)
      if not there or not string.find(there.flags, flag, 1, true) then finished = 0 end
      if there and born_settled and not string.find(there.flags, 's', 1, true) then finished = 0 end
    end
    if c.unconditional then finished = 0 end
  end
  for _, name in ipairs(keys) do
    if finished == 0 then
      -- No flag yet: it is not finished.
      refused = refused + mark_walk(name, args, c, '')
    else
      lengthen(name, c.lifetime)
    end
  end
  return {finished, refused}
end

local function walk_finish(keys, args)
  local c = parse_command(args)
  local refused = 0
  for _, name in ipairs(keys) do
    refused = refused + mark_walk(name, args, c, 'd')
    if c.act == 's' then refused = refused + mark_walk(name, args, c, 's') end
  end
  return {1, refused}
end

-- KEYS: the set, then keys and markers as for invalidate. Flag 'm' takes the deleted and absent members
-- out of the set; those kept or replayed stay in it, for they may hold a value.
local function walk_members(keys, args)
  local c = parse_command(args)
  local gone = string.find(args[3], 'm', 2, true) and {} or nil
  local reply = invalidate_keys(keys, 2, (#keys - 1) / 2, args, c, gone)
  if gone and #gone > 0 then redis.call('SREM', keys[1], unpack(gone)) end
  return reply
end
