-- `fill: plain` with announcements: deletes, and tells who must not keep what; no markers. KEYS and ARGV as invalidate.lua,
-- without markers: key 1 ... key n, the channel's counter. Each key is told of the first time; of a settle only what was deleted.
local function delete_plainly(keys, args)
  local c = parse_command(args)
  local counter, deleted = keys[#keys], 0
  for i = 1, #keys - 1 do
    local there = redis.call('UNLINK', keys[i])
    deleted = deleted + there
    if there == 1 or c.act == 'i' then announce(c, counter, 'key', keys[i], #args == 5 and args[5] or args[4 + i]) end
  end
  return {deleted, 0, 0, 0}
end
