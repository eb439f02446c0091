-- Stores evictd's record. KEYS: the record. ARGV: its text. Returns the length of what is stored: the reply of no other command.
local function save_record(keys, args)
  -- A write that a full Redis allows; after it, the SET may pass the memory limit: without the record,
  -- nothing could be acknowledged, and the database would keep its WAL because the cache is full.
  redis.call('PERSIST', keys[1])
  redis.call('SET', keys[1], args[1])
  return #args[1]
end
