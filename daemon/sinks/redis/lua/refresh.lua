-- evictd's own part as a reader (`refresh:`): besides evictd_get and evictd_fill, which it calls as scripts, it gives back a
-- lease that it took and has no value for. Never a function: whoever has a lease and no value may as well let it end.

-- KEYS key marker, ARGV the lease -> 1 given back, 0 it was no longer there
local function release(keys, args)
  local text = read_marker(keys[2])
  local marker = text and parse_marker(text)
  if not marker or marker.lease ~= args[1] then return 0 end
  end_lease_soon(keys[2], text, now_ms())
  return 1
end
