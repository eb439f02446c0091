# Cache-aside with evictd: redis-py and psycopg 3. An empty text is a row that does not exist.
#   cache = redis.Redis(decode_responses=True, socket_timeout=1)
#   database = psycopg.connect(..., autocommit=True)
#   read(cache, database, "product:7", "select row_to_json(p) from products p where id = %s", (7,))
import time

import redis


def read(cache, database, key, query, parameters, ttl_ms=600_000, tags=()):
    marker = "evictd:" + (key if key.partition("{")[2].find("}") > 0 else "{" + key + "}")  # "{user:7}:cart" has its own braces
    names = [key, marker, *tags]
    value = lease = None
    try:
        for _ in range(100):
            state, value, lease, _ = cache.fcall("evictd_get", len(names), *names, "LEASE", 2000)
            if state != "busy":
                break
            time.sleep(0.01)  # another reader loads it: a second at most, then without the cache
        if value is not None and not lease:
            return value  # fresh, or stale while another reader refreshes it
    except redis.RedisError:
        lease = None  # without Redis, the database answers
    began = time.monotonic()
    select = f"select coalesce(({query})::text, ''), pg_current_snapshot()::text"
    value, token = database.execute(select, parameters).fetchone()
    if lease:
        age_ms = int((time.monotonic() - began) * 1000)
        try:
            cache.fcall("evictd_fill", len(names), *names, token, ttl_ms, value, "AGE", age_ms)
        except redis.RedisError:
            pass  # not cached this time
    return value
