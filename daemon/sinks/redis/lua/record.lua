-- Stores evictd's record. KEYS: the record. ARGV: its text; and perhaps the sequence that the one which is there has to have
-- reached. Returns the length of what is stored: the reply of no other command; or -1, and stores nothing, where it has not:
-- the data was flushed, swapped or loaded anew.
local function save_record(keys, args)
  if args[2] then
    local there = redis.call('GET', keys[1])
    local sequence = there and string.match(there, '\nsequence (%d+)\n')
    if tonumber(sequence or 0) < tonumber(args[2]) then return -1 end
  end
  -- A write that a full Redis allows; after it, the SET may pass the memory limit: without the record,
  -- nothing could be acknowledged, and the database would keep its WAL because the cache is full.
  redis.call('PERSIST', keys[1])
  redis.call('SET', keys[1], args[1])
  return #args[1]
end
