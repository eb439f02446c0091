-- Invalidates keys of many slots that one node of a cluster serves. A call of its own for each costs the node five times as much.
--   KEYS   none: no single slot is meant, and the node is the one that is asked
--   ARGV   as invalidate.lua has them up to trust_since; then n, key 1 ... key n, tokens (one text for all, or one per key)
-- Each key is touched by commands of one slot, as a cluster demands of scripts as well. A key that this node does not take (its slot has
-- moved, or is about to; the user has no right to it) is left as it is and told: the caller asks for it by a call of its own, to which the
-- node can say where it is, or why not. Servers that let scripts touch no key that was not declared take none.
-- Returns {deleted, kept, replayed, tombstones refused, {the number of each key that was deleted, with 'h'}, {that of each key not taken}};
-- where the call ended early, in one more table, as invalidate.lua does.
local function invalidate_scattered(_, args)
  local c = parse_command(args)
  local pcall, find = redis.pcall, string.find
  local n = tonumber(args[5])
  local done = n
  local shared = #args == 6 + n and args[6 + n] or nil
  local prefix = 't ' .. c.epoch .. ' '
  local lifetime = c.lifetime
  local fresh = shared and prefix .. shared
  local is_quick = shared and find(shared, QUICK)
  local deleted, kept, replayed, refused, hits, elsewhere = 0, 0, 0, 0, {}, {}
  for i = 1, n do
    local key = args[5 + i]
    local name = marker_name(key)
    local wanted = shared or args[5 + n + i]
    local text = pcall('GETRANGE', name, '0', MARKER_END)
    local verdict, detail, keeps_lifetime = 'delete', fresh or prefix .. wanted, false
    if text ~= '' then
      if type(text) == 'table' then
        verdict = 'elsewhere'
      else
        verdict, detail, keeps_lifetime = judge(text, wanted, is_quick or not shared and find(wanted, QUICK), detail, prefix, c)
      end
    end
    if verdict == 'delete' then
      local unlinked = pcall('UNLINK', key)
      if type(unlinked) == 'table' then
        verdict = 'elsewhere'
      else
        local reply = pcall('SET', name, detail, 'PX', keeps_lifetime and at_least(name, lifetime) or lifetime)
        if reply.err and not find(reply.err, 'OOM', 1, true) then
          verdict = 'elsewhere'
        else
          if reply.err then refused = refused + 1 end
          deleted = deleted + unlinked
          if unlinked == 1 and c.hits then hits[#hits + 1] = i end
        end
      end
    elseif verdict == 'kept' then
      kept = kept + 1
      lengthen(name, lifetime)
    elseif verdict == 'replayed' then
      replayed = replayed + 1
      lengthen(name, lifetime)
    end
    if verdict == 'elsewhere' then elsewhere[#elsewhere + 1] = i end
    if work > WORK_MAX then
      done = i
      break
    end
  end
  return reply_of_some({deleted, kept, replayed, refused, hits, elsewhere}, done, n)
end
