-- The marker: evictd's small companion of a cached key. It says what is known about the value's
-- freshness. This file is its format and every comparison; it touches no key. The daemon's scripts and the
-- readers' functions are built from it (see the build file of this room), so they cannot disagree.
--
-- Name:  evictd:{<key>}, or evictd:<key> when the key has a hash tag of its own: always in the key's slot.
--
-- Text:  <kind> <a> <b>[ <field>]...        one space between the parts
--
--   t <epoch> <token>,<token>,...           tombstone: an invalidation was here. A writer that invalidates
--                                           by itself knows no epoch: *<ms>, the time it did so. A lazy tag's
--                                           has *<ms> too: values filled before then prove nothing
--   f <version> <filled>                    filled by a checked fill at <filled> (ms, Redis TIME)
--   l - -                                   nothing but a lease
--
--   token     what a fill has to have seen
--     123       transaction 123 (64 bits)
--     ~123      transaction 123 modulo 2^32, where the daemon has only the 32 bits of the stream
--     ^123      every transaction up to 123: the snapshot's xmin must be beyond it (^0: nothing)
--     ^~123     the same modulo 2^32
--     v17       row version 17 or later
--     and behind any of them: s = settled, d = the walk (tag, pattern) was finished
--   version   what a fill has seen
--     100:105:101,103   a snapshot, as pg_current_snapshot() prints it
--     100               everything below 100 (a reader on a standby)
--     v17               row version 17
--     -                 not known (filled by lease)
--   field
--     n<version>        tombstone: besides, everything visible in this version (of the value that was here)
--     k                 tombstone: the value was kept, it is stale (mode: stale)
--     l<id>:<until>     a lease, until that time (ms, Redis TIME)
--     d<ms>             filled: how long the reader took to make the value, for early refresh
--
-- Examples:  t 7312345678901234567/1 1042
--            t 7312345678901234567/1 ^990,1042s,1043 k l42-7:1700000000000
--            f 1040:1044:1041 1700000000000
--
-- G5, in doubt delete: whatever cannot be parsed or compared proves nothing.

-- Looked up once, not at each use. By a text that has them: while a library is loaded, there is no 'string'.
local byte, find, match, sub = ('').byte, ('').find, ('').match, ('').sub

local TOKENS_MAX = 32  -- of one tombstone; then all but the latest overflow into a floor
-- So few stay, the latest, so that the marker of a key that changes all the time is not taken apart at each change.
local TOKENS_KEPT = 8
-- Transaction ids modulo 2^32 say nothing of a value that was filled longer ago: 2^31 transactions may have passed.
local MODULO_TRUST_MS = 4 * 60 * 60 * 1000
-- No marker that we write is longer. One that is was written by somebody else, and taking it apart could hold Redis up:
-- it cannot be read.
local MARKER_MAX = 8192
-- Where reading ends: one letter later, so that what is too long shows. As text, for a number has to be printed at each call.
local MARKER_END = '8192'
-- Nor has one that we write so much in it. A call has hundreds of markers, and eight kilobytes of tokens took 10 ms to be taken apart.
local TOKENS_READ_MAX, ROWS_READ_MAX, FIELDS_MAX = 2 * TOKENS_MAX, 16, 8
local TOKENS_BYTES_MAX = 2048  -- of them all
-- Of the version that a fill leaves in a marker. A longer snapshot is kept as its xmin, which claims less (G5).
local VERSION_MAX = 2048
local FILLED_MAX = VERSION_MAX + 128  -- of the marker of a fill
local SNAPSHOT_KEPT_MAX = 6144  -- of the daemon's own, in a tombstone
local EXACT_MAX = 9007199254740992  -- 2^53: beyond it, Lua numbers skip integers

-- What this call has taken apart, about a quarter of a microsecond each: a transaction of a snapshot is 1. A call that comes to more than
-- WORK_MAX ends behind the key it is at, and its caller asks for the rest: hundreds of markers that each hold no more than we may write
-- would hold Redis up for half a second. (Of no use where the script is a library of functions: that never begins at 0 again.)
local work = 0
local WORK_MAX = 6144
local WORK_OF_TOKEN, WORK_OF_ROWS = 4, 8  -- of two row versions that are compared
local WORK_LETTERS = 8  -- of a text that is copied and searched, to 1; short ones are not counted
local WORK_TEXT_MIN = 512
local READ_MAX = 131072  -- bytes of markers in one call

local function work_of_text(text)
  if #text > WORK_TEXT_MIN then work = work + #text / WORK_LETTERS end
end

-- 'evictd:{key}', or 'evictd:key' when the key has a non-empty hash tag.
local function marker_name(key)
  local open = find(key, '{', 1, true)
  if open then
    local close = find(key, '}', open + 1, true)
    if close and close > open + 1 then return 'evictd:' .. key end
  end
  return 'evictd:{' .. key .. '}'
end

-- The text of a marker, false when there is none. Never more of it than shows that it is too long: whoever may write markers may
-- write half a gigabyte, and handing that to a script holds Redis up for milliseconds a megabyte.
local function read_marker(name)
  local text = redis.pcall('GETRANGE', name, '0', MARKER_END)
  if text == '' then return false end
  if type(text) == 'string' then return text end
  -- Of another type, which is none to MGET; or the user may not GETRANGE, which its line did not always name.
  return redis.call('MGET', name)[1]
end

-- A whole number that Lua holds exactly, or nil.
local function exact(digits)
  if not find(digits, '^%d+$') then return nil end
  local number = tonumber(digits)
  if number > EXACT_MAX then return nil end
  return number
end

-- A row version in a form whose order is the order of strings: unsigned integers of up to 64 bits, or
-- timestamps such as 2024-02-03T04:05:06.789Z. The first letter keeps the two apart. nil: neither.
local function row_version(text)
  if #text > 64 then return nil end
  if find(text, '^%d+$') then
    local digits = match(text, '^0*(%d+)$')
    if #digits > 20 then return nil end
    return 'n' .. string.rep('0', 20 - #digits) .. digits
  end
  local date, time, fraction, zone = match(
    text, '^(%d%d%d%d%-%d%d%-%d%d)T(%d%d:%d%d:%d%d)%.?(%d*)(Z?)$')
  if not date or #fraction > 9 then return nil end
  return 't' .. zone .. date .. time .. fraction .. string.rep('0', 9 - #fraction)
end

-- True when `a` is at least `b`, both row versions as text; false as well when they cannot be compared.
local function row_version_reaches(a, b)
  local x, y = row_version(a), row_version(b)
  if not x or not y or sub(x, 1, 1) ~= sub(y, 1, 1) then return false end
  if sub(x, 1, 2) == 'tZ' ~= (sub(y, 1, 2) == 'tZ') then return false end
  return x >= y
end

-- Milliseconds, as text: most of it is only written down.
local function now_text()
  local time = redis.call('TIME')
  local micros = time[2]
  if #micros < 6 then micros = sub('00000' .. micros, -6) end
  return time[1] .. sub(micros, 1, 3)
end

local function now_ms()
  return tonumber(now_text())
end

-- '101,103' -> {101, 103} and {[101] = true, [103] = true}; nil when a number is not exact.
local function parse_running(list)
  local running, set = {}, {}
  work = work + #list / 2
  for digits in string.gmatch(list, '%d+') do
    local xid = tonumber(digits)
    if xid > EXACT_MAX then return nil end
    running[#running + 1] = xid
    set[xid] = true
  end
  return running, set
end

-- What a fill says it has seen -> {row=} or {xmin=, xmax=, list=}; nil when unreadable. Most comparisons are decided by xmin or
-- xmax: a short list, whose numbers are exact, is taken apart by running_of() when one is not.
local DIGITS_EXACT = 15  -- so many are always
local NOTHING_RUNNING = {}
local function parse_version(text)
  local low, high, list = match(text, '^(%d+):(%d+):([%d,]*)$')
  if low then
    local xmin, xmax = low + 0, high + 0  -- digits: a sum costs less than tonumber()
    if xmin > xmax or xmax > EXACT_MAX then return nil end
    if #list <= DIGITS_EXACT then return {xmin = xmin, xmax = xmax, list = list} end
    local running, set = parse_running(list)
    return running and {xmin = xmin, xmax = xmax, running = running, set = set}
  end
  local row = match(text, '^v(.+)$')
  if row then return row_version(row) and {row = row} or nil end
  local all_below = exact(text)
  if not all_below then return nil end
  return {xmin = all_below, xmax = all_below, running = NOTHING_RUNNING, set = NOTHING_RUNNING}
end

-- Those in progress, of a version that is a snapshot: a list, and a set.
local function running_of(version)
  if not version.running then version.running, version.set = parse_running(version.list) end
  return version.running, version.set
end

-- The 64-bit transaction nearest to `near` that has these low 32 bits.
local function widen(low, near)
  local distance = (low - near) % 4294967296
  if distance >= 2147483648 then distance = distance - 4294967296 end
  return near + distance
end

local function sees_xid(version, xid)
  if xid < version.xmin then return true end
  if xid >= version.xmax then return false end
  local _, set = running_of(version)
  return not set[xid]
end

-- True when `version` proves that it has seen what token `id` (without its flags) asks for.
local function sees(version, id)
  if id == '^0' then return true end  -- asks for nothing
  local first = byte(id)
  if first == 118 then return version.row ~= nil and row_version_reaches(version.row, sub(id, 2)) end  -- 'v'
  if version.row then return false end
  if first == 94 then  -- '^'
    local modulo = byte(id, 2) == 126  -- '~'
    local floor = exact(sub(id, modulo and 3 or 2))
    return floor ~= nil and version.xmin > (modulo and widen(floor, version.xmax) or floor)
  end
  if first == 126 then  -- '~'
    local low = exact(sub(id, 2))
    return low ~= nil and sees_xid(version, widen(low, version.xmax))
  end
  local xid = exact(id)
  return xid ~= nil and sees_xid(version, xid)
end

-- The same of a version that was filled at `filled` (ms; nil: now).
local function filled_sees(version, filled, id)
  if not sees(version, id) then return false end
  return not filled or not find(id, '~', 1, true) or now_ms() - filled < MODULO_TRUST_MS
end

-- True when everything visible in `older` is visible in `newer`.
local function includes(newer, older)
  if older.row or newer.row then
    return older.row ~= nil and newer.row ~= nil and row_version_reaches(newer.row, older.row)
  end
  if newer.xmin >= older.xmax then return true end  -- the usual refresh
  for _, xid in ipairs((running_of(newer))) do
    if sees_xid(older, xid) then return false end
  end
  -- What is at or beyond newer.xmax must not have been visible in `older` either.
  if older.xmax - newer.xmax > #running_of(older) then return false end
  for xid = newer.xmax, older.xmax - 1 do
    if sees_xid(older, xid) then return false end
  end
  return true
end

-- Text -> {kind=, a=, b=, need=, kept=, took=, lease=, lease_until=}; nil when unreadable.
local function parse_marker(text)
  if #text > FILLED_MAX then
    -- Long is what fills need besides, if anything: the tokens in front of it are not.
    if #text > MARKER_MAX or byte(text) ~= 116 then return nil end  -- 't'
    local stop = find(text, ' ', 3, true)
    stop = stop and find(text, ' ', stop + 1, true)
    if not stop or stop > FILLED_MAX then return nil end
  end
  local kind, a, b, rest = match(text, '^([tfl]) (%S+) (%S+)(.*)$')
  if not kind then return nil end
  local marker = {kind = kind, a = a, b = b}
  local fields = 0
  for field in string.gmatch(rest, '%S+') do
    fields = fields + 1
    if fields > FIELDS_MAX then return nil end
    local letter = sub(field, 1, 1)
    if letter == 'n' then
      marker.need = sub(field, 2)
    elseif field == 'k' then
      marker.kept = true
    elseif letter == 'd' then
      marker.took = exact(sub(field, 2))
    elseif letter == 'l' then
      local id, till = match(field, '^l([^:]+):(%d+)$')
      if not id then return nil end
      marker.lease, marker.lease_until = id, tonumber(till)
    else
      return nil
    end
  end
  return marker
end

local function marker_text(marker)
  local text = marker.kind .. ' ' .. marker.a .. ' ' .. marker.b
  if marker.need then text = text .. ' n' .. marker.need end
  if marker.kept then text = text .. ' k' end
  if marker.took then text = text .. ' d' .. string.format('%.0f', marker.took) end
  if marker.lease then text = text .. ' l' .. marker.lease .. ':' .. string.format('%.0f', marker.lease_until) end
  return text
end

-- '123,124s' -> {{id='123', flags=''}, {id='124', flags='s'}} and {['123']=..., ['124']=...}; nil when unreadable.
-- `is_marker`: the tokens of a marker, which may be anybody's.
local function parse_tokens(text, is_marker)
  local list, by_id = {}, {}
  if is_marker and #text > TOKENS_BYTES_MAX then return nil end
  local tokens_left, rows_left = is_marker and TOKENS_READ_MAX or #text, is_marker and ROWS_READ_MAX or #text
  for part in string.gmatch(text, '[^,]+') do
    local id, flags = match(part, '^(%^?~?%d+)([sd]*)$')
    if not id then
      id, flags = match(part, '^(v[%d:TZ%.%-]+)([sd]*)$')
      rows_left = rows_left - 1
    end
    tokens_left = tokens_left - 1
    work = work + WORK_OF_TOKEN
    if not id or tokens_left < 0 or rows_left < 0 then return nil end
    local token = {id = id, flags = flags}
    list[#list + 1] = token
    by_id[id] = token
  end
  if #list == 0 then return nil end
  return list, by_id
end

-- Puts a row version among those known: the higher one where two compare, both where they do not, since a fill
-- would have to prove both, and cannot (G5).
local function add_row_version(rows, token)
  local text = sub(token.id, 2)
  for i, row in ipairs(rows) do
    local known = sub(row.id, 2)
    work = work + WORK_OF_ROWS
    if row_version_reaches(text, known) then
      rows[i] = token
      return
    end
    if row_version_reaches(known, text) then return end
  end
  rows[#rows + 1] = token
end

-- Where a transaction stands among others, as a number: wide ones by themselves, those modulo 2^32 by the distance to the
-- latest, which all others are within 2^31 of (whatever is not still has a place).
local function place(digits, latest)
  if not latest then return tonumber(digits) end
  return (tonumber(digits) - latest + 2147483648) % 4294967296
end

-- Puts all but the last TOKENS_KEPT of `list` into a floor, the highest of them and of the floor there was.
-- Returns what stays and the floor.
local function overflow(list, floor, sign, latest)
  local dropped = #list - TOKENS_KEPT
  if dropped <= 0 then return list, floor end
  local skip = #sign  -- of an id: '' or '~'
  local highest = floor and sub(floor.id, 2 + skip)
  local top = highest and place(highest, latest)
  for i = 1, dropped do
    local digits = sub(list[i].id, 1 + skip)
    local at = place(digits, latest)
    if not top or at > top then highest, top = digits, at end
  end
  local rest = {}
  for i = dropped + 1, #list do rest[#rest + 1] = list[i] end
  return rest, {id = '^' .. sign .. highest, flags = ''}
end

-- Tokens -> text. Three kinds of transactions: wide ones have an order, those modulo 2^32 one around the latest, opaque
-- ones (beyond 2^53) none. Of the first two one floor at most, and one row version of each kind, the highest each.
local function tokens_text(list)
  local wide, modulo, opaque, rows = {}, {}, {}, {}
  local wide_floors, modulo_floors, latest = {}, {}, nil
  for _, token in ipairs(list) do
    local id = token.id
    local letter = byte(id)
    if letter == 126 then  -- '~'
      modulo[#modulo + 1] = token
    elseif letter == 94 then  -- '^'
      local floors = byte(id, 2) == 126 and modulo_floors or wide_floors
      floors[#floors + 1] = token
    elseif letter == 118 then  -- 'v'
      add_row_version(rows, token)
    elseif #id < 16 or exact(id) then
      wide[#wide + 1] = token
    else
      opaque[#opaque + 1] = token
    end
  end
  local last = modulo[#modulo] or modulo_floors[1]
  if last then latest = tonumber(match(last.id, '%d+')) end
  local function highest(floors, skip, around)
    local one = floors[1]
    for i = 2, #floors do
      if place(sub(floors[i].id, skip), around) > place(sub(one.id, skip), around) then one = floors[i] end
    end
    return one
  end
  local wide_floor, modulo_floor = highest(wide_floors, 2), highest(modulo_floors, 3, latest)
  if #wide + #modulo + #opaque > TOKENS_MAX then
    wide, wide_floor = overflow(wide, wide_floor, '')
    modulo, modulo_floor = overflow(modulo, modulo_floor, '~', latest)
    if #opaque > TOKENS_KEPT then
      -- '^' of the largest exact number is never reached, so no snapshot is accepted until this tombstone has passed
      -- (G5). None would have been: they stay only so that a replay of the latest is recognised.
      wide_floor = {id = '^' .. string.format('%.0f', EXACT_MAX), flags = ''}
      local rest = {}
      for i = #opaque - TOKENS_KEPT + 1, #opaque do rest[#rest + 1] = opaque[i] end
      opaque = rest
    end
  end
  local parts = {}
  local function put(token) parts[#parts + 1] = token.id .. token.flags end
  if wide_floor then put(wide_floor) end
  if modulo_floor then put(modulo_floor) end
  for _, token in ipairs(rows) do put(token) end
  for _, token in ipairs(wide) do put(token) end
  for _, token in ipairs(modulo) do put(token) end
  for _, token in ipairs(opaque) do put(token) end
  return table.concat(parts, ',')
end

-- The daemon's own snapshot, the same one for all keys of a call.
local snapshot_text, snapshot_seen
local function parse_snapshot(text)
  if text ~= snapshot_text then snapshot_text, snapshot_seen = text, parse_version(text) end
  return snapshot_seen
end

-- Too many tokens: those that a snapshot of the daemon's own has seen may go, if every fill from here on has to
-- include that snapshot (`need`). So a transaction that stays open for long does not forbid all fills, as a
-- floor would. Not under a snapshot that would make the marker one that cannot be read. Returns the tokens and what fills need besides.
local function compacted(list, need, snapshot)
  if #list <= TOKENS_MAX or not snapshot or #snapshot > SNAPSHOT_KEPT_MAX then return list, need end
  local seen = parse_snapshot(snapshot)
  local needed = need and parse_version(need)
  if not seen or (need and not (needed and includes(seen, needed))) then return list, need end
  local rest = {}
  for _, token in ipairs(list) do
    if not sees(seen, token.id) then rest[#rest + 1] = token end
  end
  if #rest == 0 then rest[1] = {id = '^0', flags = ''} end
  return rest, snapshot
end

-- The token of a tombstone (its tokens by id) that remembers what `id` stands for; nil when it is not known. A floor
-- stands for many, and the same one may have been left by others: it remembers nobody (G5). '^0' stands for none.
local function remembered(by_id, id)
  if byte(id) == 94 and id ~= '^0' then return nil end  -- '^'
  return by_id[id]
end

local function add_flag(flags, flag)
  if find(flags, flag, 1, true) then return flags end
  return flags .. flag
end

-- Whether a tombstone's epoch is that of the command. A writer's (*<ms>) is, when the epoch had begun by then.
local function same_epoch(epoch, c)
  if epoch == c.epoch then return true end
  local since = exact(match(epoch, '^%*(%d+)$') or '')
  return since ~= nil and since >= c.trust_since
end

-- How many transactions a reader's snapshot may be ahead of what a command knows: of its own transactions, and of its snapshot.
local AHEAD_MAX = 65536

-- Whether nobody can have seen what a filled marker claims, everything below `xmax`: no server of this history has come so far. It is made
-- up, or a token of another database, and would keep its value for as long as the numbers take to get there.
--   newest  of the command's transactions
local function is_ahead(xmax, newest, c)
  if xmax <= newest + AHEAD_MAX then return false end
  local known = c.snapshot and parse_snapshot(c.snapshot)
  return not known or known.row ~= nil or xmax > known.xmax + AHEAD_MAX
end

-- The heart: what an invalidation does to a marker that is there (design table, rows 2 to 4).
--   text    of the marker
--   wanted  tokens of this invalidation, as text; those born settled carry their 's'
--   c       the command: epoch, trust_filled, trust_since, unconditional, snapshot
-- Returns 'kept', 'replayed', or 'delete' and the new marker's text.
local function decide(text, wanted, c)
  local fresh = 't ' .. c.epoch .. ' ' .. wanted
  local marker = parse_marker(text)
  if not marker or marker.kind == 'l' then return 'delete', fresh end
  local list = parse_tokens(wanted)
  if not list then return 'delete', fresh end

  if marker.kind == 'f' then
    local filled = exact(marker.b)
    if not filled or filled < c.trust_since then return 'delete', fresh end
    local version = parse_version(marker.a)
    if not version then return 'delete', fresh end
    local proven = c.trust_filled and not c.unconditional
    local newest = version.xmax and 0
    for _, token in ipairs(list) do
      if proven and not filled_sees(version, filled, token.id) then proven = false end
      local xid = newest and exact(token.id)
      newest = xid and (xid > newest and xid or newest)
    end
    if newest and is_ahead(version.xmax, newest, c) then return 'delete', fresh end
    if proven then return 'kept' end
    -- The next fill must not go back behind the value that was here either.
    return 'delete', fresh .. ' n' .. marker.a
  end

  if not same_epoch(marker.a, c) then return 'delete', fresh end
  local have, by_id = parse_tokens(marker.b, true)
  if not have then return 'delete', fresh end
  local all_there, wants_settled = true, false
  for _, token in ipairs(list) do
    local there = remembered(by_id, token.id)
    if not there then
      all_there = false
    elseif find(token.flags, 's', 1, true) and not find(there.flags, 's', 1, true) then
      wants_settled = true
    end
  end
  if all_there and not c.unconditional and not wants_settled then return 'replayed' end
  for _, token in ipairs(list) do
    local there = by_id[token.id]
    if not there then
      there = {id = token.id, flags = ''}
      have[#have + 1] = there
      by_id[token.id] = there
    end
    if find(token.flags, 's', 1, true) then there.flags = add_flag(there.flags, 's') end
  end
  local tokens, need = compacted(have, marker.need, c.snapshot)
  return 'delete', marker_text({kind = 't', a = c.epoch, b = tokens_text(tokens), need = need})
end
