"""Over a cluster with the newer client. Run by test_cluster_packages.py."""

import asyncio
import os

import evictd_reader
import redis.asyncio
import redis.cluster


class Source:
    def may_have_written(self, arguments):
        return False

    def token(self, arguments):
        return "200:200:"

    def still_reading(self, arguments):
        return True


port = int(os.environ["REDIS_PORT"])
tags = [f"row:items:{i}" for i in range(12)]
for lazy in (False, True):
    cache = evictd_reader.Cache(redis.cluster.RedisCluster(host="127.0.0.1", port=port), Source(), lazy=lazy)
    page = cache.cached(f"newer:{lazy}", tags=tags if lazy else [f"set:{tag}" for tag in tags])(lambda: 7)
    assert [page(), page()] == [7, 7]
    assert cache.counts == {"misses": 1, "fills": 1, "hits": 1}, cache.counts


async def main():
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
    cache = evictd_reader.AsyncCache(client, Source())

    @cache.cached("newer:async", tags=[f"set:{tag}" for tag in tags])
    async def page():
        return 7

    assert [await page(), await page()] == [7, 7]
    assert cache.counts == {"misses": 1, "fills": 1, "hits": 1}, cache.counts
    await client.aclose()


asyncio.run(main())
print("all cases hold")
