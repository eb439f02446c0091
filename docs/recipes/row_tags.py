# A value made from many rows, with evictd: redis-py and psycopg 3. Whoever makes it tells each row that it used (docs/readers.md).
#   def page(session, uses):
#       uses("categories:3")                    # the rule: {table: categories, tags: ["row:categories:{id}"], fill: checked}
#       uses("products:category_id=3")          # whatever product comes to this category
#       ...
#   read(cache, database, "page:3", page)
import time

import redis


def read(cache, database, key, load, ttl_ms=600_000):
    marker = "evictd:" + (key if key.partition("{")[2].find("}") > 0 else "{" + key + "}")  # "{user:7}:cart" has its own braces
    names = [key, marker]
    value = lease = None
    try:
        for _ in range(100):
            state, value, lease, _ = cache.fcall("evictd_get", 2, *names, "LEASE", 2000)
            if state != "busy":
                break
            time.sleep(0.01)  # another reader loads it: a second at most, then without the cache
        if value is not None and not lease:
            return value  # fresh, or stale while another reader refreshes it
    except redis.RedisError:
        lease = None  # without Redis, the database answers
    began = time.monotonic()
    with database.transaction():  # one snapshot for all of its SELECTs
        database.execute("set transaction isolation level repeatable read, read only")
        token = database.execute("select pg_current_snapshot()::text").fetchone()[0]
        value = load(database, lambda row: names.append("tag:row:" + row))
    if lease:
        try:
            age_ms = int((time.monotonic() - began) * 1000)
            cache.fcall("evictd_fill", len(names), *names, token, ttl_ms, value, "AGE", age_ms)
        except redis.RedisError:
            pass  # not cached this time
    return value
