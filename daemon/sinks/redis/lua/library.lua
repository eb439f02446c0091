-- Registers the readers' functions: the end of the library `evictd`.
redis.register_function{function_name = 'evictd_fill', callback = fill}
-- Reads and deletes must work when Redis is full; what a get writes is a lease, small and short-lived.
redis.register_function{function_name = 'evictd_join', callback = join}
redis.register_function{function_name = 'evictd_seen', callback = seen, flags = {'no-writes'}}
redis.register_function{function_name = 'evictd_get', callback = get, flags = {'allow-oom'}}
redis.register_function{function_name = 'evictd_invalidate', callback = write_invalidate, flags = {'allow-oom'}}
redis.register_function{function_name = 'evictd_stats', callback = stats, flags = {'no-writes'}}
redis.register_function{
  function_name = 'evictd_version', callback = function() return LIBRARY_VERSION end, flags = {'no-writes'}}
