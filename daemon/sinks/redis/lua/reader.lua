-- The readers' half: fill, get, and a writer's own invalidate. Registered as functions by library.lua; for
-- servers without functions the same texts are scripts (`evictd lua`).
--
-- Every call takes the key and its marker as the first two KEYS, then the tags:
--   tag:<name>            members: the tag's set, which the key joins. Its marker is named by marker_name(), only
--                         read here: a tag's invalidation deletes the members themselves
--   evictd:{tag:<name>}   lazy: the tag's marker itself, there is no set. It must outlive every value that rests
--                         on it: a fill creates and lengthens it; where it is gone, get says stale
-- A fill also reads the marker where pattern purges leave their tombstone: 'evictd:purged', or that of the key's own slot
-- on a cluster (purged_name()).
--
-- On a cluster one call has one slot. A tag is in another than the key, so it is joined first, in its own:
--   evictd_join   the key becomes a member of the tag, unless the tag was invalidated past the token: then do not fill
--   evictd_seen   lazy: whether a value of this version has seen the tag's last invalidation
-- The order is what makes it safe: an invalidation writes the tag's tombstone before it reads the members, a join looks at
-- that tombstone, and nobody takes a membership away before its end, for a fill that is still under way may count on it.
--
-- Replies are plain: Redis clients of every language read them without a wrapper.

local MARGIN = 1000  -- ms, as the daemon's tombstones have it
local LEAST_LIFETIME = TOMBSTONE_TTL + MARGIN  -- of the marker of a fill
local LEAST_LIFETIME_TEXT = ('%.0f'):format(LEAST_LIFETIME)
local REJECTED_PAUSE = 10  -- ms
local TOKEN_MAX = 65536  -- bytes
-- A longer snapshot, of more than a thousand transactions in progress, counts as its xmin, which claims less (G5): taking
-- it apart would keep Redis from everybody else for milliseconds.
local SNAPSHOT_MAX = 16384

-- Counted by this process of Redis, since the library was loaded. Scripts count nothing: they forget.
local counts = {
  stored = 0, rejected_tombstone = 0, rejected_newer = 0, rejected_age = 0, rejected_lease = 0,
  rejected_token = 0, fresh = 0, same = 0, stale = 0, miss = 0, busy = 0, leases = 0, early = 0, invalidated = 0,
}
local COUNT_NAMES = {
  'stored', 'rejected_tombstone', 'rejected_newer', 'rejected_age', 'rejected_lease', 'rejected_token',
  'fresh', 'same', 'stale', 'miss', 'busy', 'leases', 'early', 'invalidated',
}

-- The marker of pattern purges that a fill of this key has to look at. On a cluster each slot has one, named by a hash tag
-- of four letters from '@' to 'O' that falls into it: of all names of this form, XOR of the letters' low bits is XOR of the
-- slots, so two tables of 128 give the name of any slot (topology/slots.cpp has the same).
local EMPTY = 13881  -- the slot of '@@@@'
-- Whose letters change bit 0, 1, ... of the slot alone.
local BASIS = {6906, 1773, 10107, 4364, 10897, 14784, 8035, 10111, 4356, 8712, 7146, 1229, 9019, 6540}
local crc_of, low, high
local function make_slot_tables()  -- at the first call: while a library is loaded, there is no 'bit'
  crc_of, low, high = {}, {}, {}
  for value = 0, 255 do
    local crc = value * 256
    for _ = 1, 8 do crc = crc >= 32768 and bit.bxor(crc * 2 - 65536, 4129) or crc * 2 end
    crc_of[value] = crc
  end
  for i = 0, 127 do
    local a, b = 0, 0
    for j = 0, 6 do
      if bit.band(bit.rshift(i, j), 1) == 1 then a, b = bit.bxor(a, BASIS[j + 1]), bit.bxor(b, BASIS[j + 8]) end
    end
    low[i], high[i] = a, b
  end
end

local function purged_name(key)
  if not IS_CLUSTER then return 'evictd:purged' end
  if not crc_of then make_slot_tables() end
  local bxor, band, rshift = bit.bxor, bit.band, bit.rshift
  local first, last = 1, #key
  local open = find(key, '{', 1, true)
  local close = open and find(key, '}', open + 1, true)
  if close and close > open + 1 then first, last = open + 1, close - 1 end
  local crc = 0
  for i = first, last do crc = bxor(band(crc, 255) * 256, crc_of[bxor(rshift(crc, 8), byte(key, i))]) end
  local slot = bxor(band(crc, 16383), EMPTY)
  local letters = bxor(low[band(slot, 127)], high[rshift(slot, 7)])
  return 'evictd:purged:{' .. string.char(64 + rshift(letters, 12), 64 + band(rshift(letters, 8), 15),
    64 + band(rshift(letters, 4), 15), 64 + band(letters, 15)) .. '}'
end

-- 0 <= number < 1. Redis seeds Lua's own generator alike in every script.
local function random_share(salt)
  local time = redis.call('TIME')
  local hash = redis.sha1hex(time[1] .. '.' .. time[2] .. salt)
  return tonumber(sub(hash, 1, 8), 16) / 4294967296
end

-- The last one is kept: a reader's lifetimes are the same at every call.
local last_text, last_whole
local function whole(text)
  if text == last_text then return last_whole end
  local number = text and exact(text)
  if number and #text < 16 then last_text, last_whole = text, number end
  return number
end

local function whole_or_zero(text)
  if text == nil then return 0 end
  return whole(text)
end

-- [NAME value ...] from args[first] on, NAME one of four -> false and the value of each; the offending word otherwise.
local function parse_options(args, first, a, b, c, d)
  local value_of_a, value_of_b, value_of_c, value_of_d
  for i = first, #args, 2 do
    local name, value = args[i], args[i + 1]
    if name ~= a and name ~= b and name ~= c and name ~= d then name = string.upper(name) end
    if value == nil then
      return args[i]
    elseif name == a then
      value_of_a = value
    elseif name == b then
      value_of_b = value
    elseif name == c then
      value_of_c = value
    elseif name == d then
      value_of_d = value
    else
      return args[i]
    end
  end
  return false, value_of_a, value_of_b, value_of_c, value_of_d
end

-- A name in an error: short, and without anything that would break the line.
local function shown(name)
  return "'" .. string.gsub(sub(name, 1, 100), '%c', '?') .. "'"
end

-- 'tag:x', or the marker of a lazy tag: 'evictd:{tag:x}'.
local function is_tag(name)
  if sub(name, 1, 4) == 'tag:' then return true end
  local tag = match(name, '^evictd:{(tag:.*)}$') or match(name, '^evictd:(tag:.*)$')
  return tag ~= nil and marker_name(tag) == name
end

-- What is wrong with the KEYS of a call, as an error; nil when nothing is. A marker that is not the one of its key (a
-- client that puts a prefix before its keys, arguments in the wrong order) would guard nothing: evictd never looks there.
local function wrong_keys(keys)
  local key, marker = keys[1], keys[2]
  if marker ~= 'evictd:{' .. key .. '}' or find(key, '{', 1, true) then
    if marker ~= marker_name(key) then
      return redis.error_reply('ERR expected ' .. shown(marker_name(key)) .. ' as the marker of ' .. shown(key) .. ', got ' ..
        shown(marker) .. ': a client\'s key prefix belongs into the key, not before the marker')
    end
  end
  if byte(key) == 101 and sub(key, 1, 7) == 'evictd:' then  -- 'e'
    return redis.error_reply('ERR expected the key of a cached value, got ' .. shown(key) .. ", one of evictd's own")
  end
  for i = 3, #keys do
    if not is_tag(keys[i]) then
      return redis.error_reply("ERR expected 'tag:<name>' or 'evictd:{tag:<name>}', got " .. shown(keys[i]))
    end
  end
  return nil
end

-- 'v:17' -> 'v17'; snapshots and a bare xmin as they are.
local function token_version(token)
  if #token > SNAPSHOT_MAX then token = match(token, '^(%d+):%d+:') or token end
  if byte(token) ~= 118 then return token, parse_version(token) end  -- 'v'
  local row = match(token, '^v:(.+)$')
  local text = row and 'v' .. row or token
  return text, parse_version(text)
end

-- Why a tombstone forbids a fill of this version; nil when it does not. `marker` is its text parsed, nil when unreadable.
-- `filled` (ms): the fill was then, not now.
local function tombstone_forbids(marker, version, filled)
  if not marker then return 'rejected_tombstone' end
  local xid = match(marker.b, '^(%d+)s?$')  -- the usual one, without a list
  if xid then
    if not sees(version, xid) then return 'rejected_tombstone' end
  else
    local list = parse_tokens(marker.b, true)
    if not list then return 'rejected_tombstone' end
    for _, token in ipairs(list) do
      if not filled_sees(version, filled, token.id) then return 'rejected_tombstone' end
    end
  end
  if marker.need then
    local need = parse_version(marker.need)
    if not need or not includes(version, need) then return 'rejected_newer' end
  end
  return nil
end

local function is_tombstone(text)
  return text and byte(text) == 116 and byte(text, 2) == 32  -- 't '
end

-- The same for the text of the key's own marker, which may also say that a newer value was filled.
local function marker_forbids(text, version, version_text)
  if not text then return nil end
  if byte(text) == 116 then  -- 't'
    local xid = #text <= FILLED_MAX and match(text, '^t %S+ (%d+)s?$')  -- the usual one, without a table
    if xid then return not sees(version, xid) and 'rejected_tombstone' or nil end
    return is_tombstone(text) and tombstone_forbids(parse_marker(text), version) or nil
  end
  if #text > FILLED_MAX then return nil end
  local there = match(text, '^f (%S+) ')
  if not there or there == '-' or there == version_text then return nil end
  -- The usual refresh: all that the one there has seen anything of was over.
  local high = version.xmin and match(there, '^%d+:(%d+):')
  if high and version.xmin >= high + 0 then return nil end
  local filled = parse_version(there)
  if not filled or includes(version, filled) then return nil end
  return 'rejected_newer'
end

local function is_lazy_tag(name)
  return sub(name, 1, 7) == 'evictd:'
end

-- The markers of the key, of purges, and of the tags, in this order.
local function read_markers(keys)
  local found = {read_marker(keys[2]), read_marker(purged_name(keys[1]))}
  for i = 3, #keys do found[i] = read_marker(is_lazy_tag(keys[i]) and keys[i] or marker_name(keys[i])) end
  return found
end

local function rejected(reason)
  counts[reason] = counts[reason] + 1
  return 0
end

-- Whoever waits for a fill that was rejected need not wait for the end of its lease. Nor go on at once: what the
-- fill had not seen will be visible in a few milliseconds, and until then all of them would ask in vain.
local function end_lease_soon(name, text, now)
  local marker = text and parse_marker(text)
  if not marker or not marker.lease or marker.lease_until <= now + REJECTED_PAUSE then return end
  marker.lease_until = now + REJECTED_PAUSE
  redis.call('SET', name, marker_text(marker), 'KEEPTTL')
end

-- A lazy tag's marker, there for at least as long as this value: "nothing to have seen" when it is new, but to be of `since` (ms),
-- and `need`.
local function keep_lazy_tag(name, text, lifetime, since, need)
  if not text then
    redis.call('SET', name, 't *' .. since .. ' ^0' .. (need and ' n' .. need or ''), 'PX', lifetime)
  elseif redis.call('PTTL', name) < lifetime then
    redis.call('PEXPIRE', name, lifetime)
  end
end

-- A membership that has an end, so that nobody needs to take it away before: a member of a sorted set, scored by the end
-- (ms, Redis TIME). The set itself lives as long as its last membership. Removes so many of those that are over. Returns an
-- error reply when the tag is no sorted set.
local OVER_MAX = 64
local function become_member(tag, key, lifetime, now)
  local call = redis.call
  local over = redis.pcall('ZRANGEBYSCORE', tag, '-inf', '(' .. now, 'LIMIT', 0, OVER_MAX)
  if over.err then return over end
  if #over > 0 then call('ZREM', tag, unpack(over)) end
  call('ZADD', tag, 'GT', string.format('%.0f', tonumber(now) + lifetime), key)
  local last = call('ZRANGE', tag, -1, -1, 'WITHSCORES')
  call('PEXPIREAT', tag, string.format('%.0f', tonumber(last[2])))
end

-- The memberships of a fill are written together with the value, so that a walk may take them away together: a set. On a
-- cluster a walk cannot, and where evictd_join is used it must not: there they have ends. Returns an error reply when the tag is neither:
-- the value would be listed nowhere, and nobody could delete it.
local function join_with_fill(tag, key, lifetime, now)
  if not IS_CLUSTER then
    local added = redis.pcall('SADD', tag, key)
    if type(added) == 'number' then return nil end
    if not find(added.err, 'WRONGTYPE', 1, true) then error(added) end
  end
  local wrong = become_member(tag, key, lifetime, now)
  if wrong and find(wrong.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply('ERR expected a set of members at ' .. shown(tag) .. ', got another type: the value is not stored')
  end
  return wrong
end

-- evictd_fill 2+n key marker [tag ...] token ttl_ms value [AGE ms] [JITTER percent] -> 1 stored, 0 rejected
--   token  the text of pg_current_snapshot(), a bare xmin, v:<row version>, or lease:<id>
--   AGE    how long ago the reader began its SELECT; a fill older than a tombstone lives is rejected
local function fill(keys, args)
  local token, lifetime = args[1], whole(args[2])
  if #keys < 2 or #args < 3 or not lifetime or lifetime < 1 then
    return redis.error_reply('ERR expected key marker [tag ...] token ttl_ms value, ttl_ms at least 1')
  end
  local age, jitter, age_text = 0, 0, nil
  if args[4] then
    local wrong, jitter_text
    wrong, age_text, jitter_text = parse_options(args, 4, 'AGE', 'JITTER')
    if wrong then return redis.error_reply("ERR expected AGE ms or JITTER percent, got '" .. wrong .. "'") end
    age, jitter = whole_or_zero(age_text), whole_or_zero(jitter_text)
    if not age or not jitter or jitter > 100 then
      return redis.error_reply('ERR expected a whole number after AGE, and 0 to 100 after JITTER')
    end
  end
  local misnamed = wrong_keys(keys)
  if misnamed then return misnamed end
  if #token > TOKEN_MAX then
    return redis.error_reply('ERR expected a token of at most ' .. TOKEN_MAX .. ' bytes, got ' .. #token)
  end
  if age >= TOMBSTONE_TTL then return rejected('rejected_age') end

  local call = redis.call
  local found = read_markers(keys)
  local now = now_text()
  local lease = byte(token) == 108 and match(token, '^lease:(.+)$')  -- 'l'
  local text
  if lease then
    local old = found[1] and parse_marker(found[1])
    if not old or old.lease ~= lease or old.lease_until < tonumber(now) then return rejected('rejected_lease') end
    -- A lease says nothing of versions: a tombstone stays one, so that its replay is still known.
    if old.kind == 't' then
      old.lease, old.kept = nil, nil
      text = marker_text(old)
    else
      text = 'f - ' .. now
    end
  else
    local version_text, version = token_version(token)
    if not version then return rejected('rejected_token') end
    local reason = marker_forbids(found[1], version, version_text)
    for i = 2, #found do
      if is_tombstone(found[i]) then reason = reason or tombstone_forbids(parse_marker(found[i]), version) end
    end
    if reason then
      end_lease_soon(keys[2], found[1], tonumber(now))
      return rejected(reason)
    end
    if #version_text > VERSION_MAX then
      if not version.xmin then return rejected('rejected_token') end
      version_text = string.format('%.0f', version.xmin)
    end
    text = 'f ' .. version_text .. ' ' .. now
  end
  if age > 0 and byte(text) == 102 then text = text .. ' d' .. age_text end  -- 'f'

  -- A number that Redis gets as the text it came as is a number that need not be printed.
  local lifetime_text = args[2]
  if jitter > 0 then
    lifetime_text = nil
    lifetime = math.max(1, math.floor(lifetime * (1 - random_share(keys[1]) * jitter / 100)))
  end
  -- The marker outlives the value, the tombstone that it replaces, and any reader that a tombstone would have
  -- outlived: whoever is slower than this value lives must still find what it has to have seen.
  local marker_lifetime, marker_lifetime_text = lifetime, lifetime_text
  if marker_lifetime < LEAST_LIFETIME then marker_lifetime, marker_lifetime_text = LEAST_LIFETIME, LEAST_LIFETIME_TEXT end
  if found[1] then
    local left = call('PTTL', keys[2])
    if left > marker_lifetime then marker_lifetime, marker_lifetime_text = left, nil end
  end
  for i = 3, #keys do
    if is_lazy_tag(keys[i]) then
      keep_lazy_tag(keys[i], found[i], marker_lifetime, now)
    else
      local wrong = join_with_fill(keys[i], keys[1], marker_lifetime, now)
      if wrong then return wrong end
    end
  end
  call('SET', keys[1], args[3], 'PX', lifetime_text or lifetime)
  call('SET', keys[2], text, 'PX', marker_lifetime_text or marker_lifetime)
  counts.stored = counts.stored + 1
  return 1
end

-- When a value was filled, behind its version: 'DATED 1' of evictd_get, for evictd_seen.
local function dated_text(version, filled)
  return version .. '@' .. filled
end

local function undated(text)
  if not find(text, '@', 1, true) then return text end
  local version, filled = match(text, '^(.*)@(%d+)$')
  return version or text, filled and exact(filled)
end

-- evictd_join 2 tag:<T> evictd:{tag:<T>} key expires_ms token -> 1 joined, 0 the tag was invalidated past the token
-- evictd_join 1 evictd:{tag:<T>} key expires_ms token         -> the same of a lazy tag, which has no members
--   expires_ms  the ttl_ms of the fill that follows. The membership lasts longer, by as long as a fill may take
-- Before evictd_fill, for each tag of the value; after a 0 there is to be no fill.
local function join(keys, args)
  local key, lifetime, token = args[1], whole(args[2]), args[3] and undated(args[3])
  local marker = keys[#keys]
  local is_lazy = #keys == 1
  if #keys < 1 or #keys > 2 or #args ~= 3 or not lifetime or lifetime < 1 then
    return redis.error_reply('ERR expected tag:<name> evictd:{tag:<name>} as keys (the latter alone for a lazy tag), then key expires_ms token, expires_ms at least 1')
  end
  if is_lazy and not (is_lazy_tag(marker) and is_tag(marker)) then
    return redis.error_reply("ERR expected 'evictd:{tag:<name>}', got " .. shown(marker))
  end
  if not is_lazy and (sub(keys[1], 1, 4) ~= 'tag:' or marker_name(keys[1]) ~= marker) then
    return redis.error_reply("ERR expected 'tag:<name>' and 'evictd:{tag:<name>}', got " .. shown(keys[1]) .. ' and ' .. shown(marker) ..
      ": a client's key prefix belongs into the name of the tag")
  end
  if sub(key, 1, 7) == 'evictd:' or key == '' or #key > TOKEN_MAX then
    return redis.error_reply('ERR expected the key of a cached value, got ' .. shown(key))
  end
  if #token > TOKEN_MAX then
    return redis.error_reply('ERR expected a token of at most ' .. TOKEN_MAX .. ' bytes, got ' .. #token)
  end
  local text, now = read_marker(marker), now_text()
  local version_text, version
  if sub(token, 1, 6) ~= 'lease:' then  -- a lease says nothing of versions
    version_text, version = token_version(token)
    if not version then return rejected('rejected_token') end
    local reason = is_tombstone(text) and tombstone_forbids(parse_marker(text), version)
    if reason then return rejected(reason) end
  end
  lifetime = lifetime + TOMBSTONE_TTL + MARGIN
  if is_lazy then
    if not version or not version.xmin then return rejected('rejected_token') end
    -- What a marker that is gone had asked for is not known: who has seen less than this value is not vouched for. (Not by when it was
    -- filled: that is another server's clock.)
    keep_lazy_tag(marker, text, lifetime, '0', #version_text <= VERSION_MAX and version_text or string.format('%.0f', version.xmin))
    return 1
  end
  local wrong = become_member(keys[1], key, lifetime, now)
  if wrong and find(wrong.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply('ERR expected a tag whose members have ends at ' .. shown(keys[1]) ..
      ', got another type: members added by SADD, or with evictd_fill, and joined ones cannot share a tag')
  end
  return wrong or 1
end

-- Whether a value that was filled then (ms; nil: nobody knows) is older than a lazy tag's marker vouches for: that was made anew by
-- the fill of another value, and what the one before it asked for is not known; or the source was first seen then as it is now, and what
-- a value had seen before that proves nothing.
local function is_older_than(filled, tag_text)
  local made = match(tag_text, '^t %*(%d+) ')
  return made and filled and filled < tonumber(made)
end

-- evictd_seen 1 evictd:{tag:<T>} version -> 1 when a value of this version (of evictd_get's reply) has seen the lazy tag's
-- last invalidation, 0 when it has not, or nobody can tell. Of a version that is not DATED, it takes the value for younger than
-- four hours, where transactions are known by 32 bits alone, and for filled since the source is what it is.
local function seen(keys, args)
  local name = keys[1]
  if #keys ~= 1 or #args ~= 1 or not (is_lazy_tag(name) and is_tag(name)) then
    return redis.error_reply("ERR expected 'evictd:{tag:<name>}' as the key, and the version of a value")
  end
  local text = read_marker(name)
  if not is_tombstone(text) then return 0 end
  local version_text, filled = undated(args[1])
  local _, version = token_version(version_text)
  if not version or is_older_than(filled, text) then return 0 end
  return tombstone_forbids(parse_marker(text), version, filled) and 0 or 1
end

-- Gives a lease when nobody holds one -> its id, or nil.
local function take_lease(keys, marker, text, now, lease_ms)
  if marker and marker.lease and marker.lease_until >= now then return nil end
  -- A tombstone that we cannot read, of a newer evictd: what it asks of fills must not be lost (G5).
  if not marker and text and sub(text, 1, 2) == 't ' then return nil end
  local time = redis.call('TIME')
  local id = time[1] .. '-' .. time[2]
  local leased = marker or {kind = 'l', a = '-', b = '-'}
  leased.lease, leased.lease_until = id, now + lease_ms
  local lifetime = math.max(lease_ms, text and redis.call('PTTL', keys[2]) or 0)
  redis.call('SET', keys[2], marker_text(leased), 'PX', lifetime)
  counts.leases = counts.leases + 1
  return id
end

-- XFetch (Vattani and others, "Optimal probabilistic cache stampede prevention", 2015): the nearer its end and
-- the longer it took to make, the likelier a value is refreshed before it is gone.
local function is_early(keys, marker, beta)
  if not marker or not marker.took then return false end
  local left = redis.call('PTTL', keys[1])
  if left < 0 then return false end
  local share = random_share(keys[1])
  if share <= 0 then return true end
  return -marker.took * beta * math.log(share) >= left
end

-- Whether the value has not seen a tag's tombstone. That of a lazy tag must be there: without it, nothing can be
-- said of what it asked for (G5).
local function tag_is_newer(marker, name, tag_text)
  if not is_tombstone(tag_text) then return is_lazy_tag(name) end
  local version = marker and marker.kind == 'f' and parse_version(marker.a)
  if not version then return true end
  local filled = exact(marker.b) or 0
  if is_lazy_tag(name) and is_older_than(filled, tag_text) then return true end
  return tombstone_forbids(parse_marker(tag_text), version, filled) ~= nil
end

-- Whether a value of this version is the one that a caller with `known` has. Not where two values may share a version: of
-- one filled by lease ('-'), and under a bare xmin, which a standby may have shown two of.
local function is_same(version, known)
  return version and version == known and (byte(version) == 118 or find(version, ':', 1, true) ~= nil)  -- 'v'
end

-- The value is fresh: with it, or without it for who has it.
local function fresh(value, lease, version, known, filled)
  if known and is_same(version, known) then
    counts.same = counts.same + 1
    return {'same', false, lease, version}
  end
  counts.fresh = counts.fresh + 1
  return {'fresh', value, lease, filled and dated_text(version, filled) or version}
end

-- evictd_get 2+n key marker [tag ...] [LEASE ms] [EARLY beta] [UNLESS version] [DATED 1] -> {state, value, lease, version}
--   fresh   the value
--   same    the value is fresh, and of the version that the caller has: it is not sent again
--   stale   the value, out of date; with a lease for the one caller who is to refresh it
--   miss    no value; with a lease for one caller (when LEASE was asked for)
--   busy    no value, and another caller holds the lease: wait a little and ask again
local function get(keys, args)
  if #keys < 2 then return redis.error_reply('ERR expected key marker [tag ...]') end
  local lease_ms, beta, known, dated = 0, 0, nil, nil
  if args[1] then
    local wrong, lease_text, early_text = false, args[2], nil
    if args[1] ~= 'LEASE' or #args ~= 2 then  -- but for the usual one alone
      wrong, lease_text, early_text, known, dated = parse_options(args, 1, 'LEASE', 'EARLY', 'UNLESS', 'DATED')
    end
    if wrong then return redis.error_reply("ERR expected LEASE ms, EARLY beta, UNLESS version or DATED 1, got '" .. wrong .. "'") end
    if known then known = undated(known) end
    if dated and dated ~= '1' then return redis.error_reply("ERR expected 1 after DATED, got " .. shown(dated)) end
    lease_ms = whole_or_zero(lease_text)
    if early_text then beta = tonumber(early_text) end
    if not lease_ms or not beta or beta < 0 then
      return redis.error_reply('ERR expected a whole number after LEASE, and a number after EARLY')
    end
  end

  local misnamed = wrong_keys(keys)
  if misnamed then return misnamed end
  local value = redis.call('GET', keys[1])
  local found
  if #keys == 2 then
    local text = read_marker(keys[2])
    if value and beta == 0 and not dated then
      -- The common case, kept lean.
      local version = text and #text <= FILLED_MAX and match(text, '^f (%S+) ')
      if version or not is_tombstone(text) then return fresh(value, false, version or false, known) end
    end
    found = {text}
  else
    found = read_markers(keys)
  end
  local marker = found[1] and parse_marker(found[1])
  local now = now_ms()
  local version = marker and marker.kind == 'f' and marker.a or false
  if not value then
    if marker and marker.lease and marker.lease_until >= now then
      counts.busy = counts.busy + 1
      return {'busy', false, false, false}
    end
    counts.miss = counts.miss + 1
    local lease = lease_ms > 0 and take_lease(keys, marker, found[1], now, lease_ms)
    return {'miss', false, lease or false, false}
  end

  local stale = marker and marker.kind == 't' and marker.kept
  for i = 3, #keys do stale = stale or tag_is_newer(marker, keys[i], found[i]) end
  if stale then
    counts.stale = counts.stale + 1
    local lease = lease_ms > 0 and take_lease(keys, marker, found[1], now, lease_ms)
    return {'stale', value, lease or false, version}
  end
  local lease = false
  if beta > 0 and lease_ms > 0 and is_early(keys, marker, beta) then
    lease = take_lease(keys, marker, found[1], now, lease_ms) or false
    if lease then counts.early = counts.early + 1 end
  end
  return fresh(value, lease, version, known, dated and version and marker.b)
end

-- evictd_invalidate 2 key marker xid|v:<row version> -> deleted, absent, kept or replayed
-- For a writer, right after its own commit; the event that follows finds it done.
local function write_invalidate(keys, args)
  local token = args[1] and match(args[1], '^v:(.+)$')
  if token then
    token = row_version(token) and 'v' .. token
  else
    token = args[1] and exact(args[1]) and args[1]
  end
  if #keys ~= 2 or not token then
    return redis.error_reply('ERR expected key marker and a 64-bit transaction id or v:<row version>')
  end
  local misnamed = wrong_keys(keys)
  if misnamed then return misnamed end
  local lifetime = string.format('%.0f', TOMBSTONE_TTL + MARGIN)
  local marker = read_marker(keys[2])
  local old = marker and parse_marker(marker)
  -- Tokens of an epoch stay in it; without one, the time tells the daemon whether it belongs to its epoch.
  local epoch = old and old.kind == 't' and old.a or '*' .. string.format('%.0f', now_ms())
  local command = {epoch, lifetime, 'if', '0', token}
  local reply = invalidate_keys(keys, 1, 1, command, parse_command(command), nil)
  counts.invalidated = counts.invalidated + 1
  if reply[1] > 0 then return 'deleted' end
  if reply[2] > 0 then return 'kept' end
  if reply[3] > 0 then return 'replayed' end
  return 'absent'
end

-- evictd_stats 0 -> {name, count, ...}
local function stats()
  local reply = {}
  for _, name in ipairs(COUNT_NAMES) do
    reply[#reply + 1] = name
    reply[#reply + 1] = counts[name]
  end
  return reply
end
