"""The packages of docs/recipes/ over a real Redis Cluster of three masters. Each has the functions that evictd gives a cluster; what
evictd does to it is done here by hand, marker by marker."""

import asyncio
import subprocess
import sys

import languages
import pytest
import redis
import redis.asyncio
from harness import daemon, process, servers
from harness.waiting import eventually
from redis.cluster import RedisCluster

sys.path.insert(0, f"{languages.ROOT}/docs/recipes/python")
import evictd_reader as reader  # noqa: E402  pylint: disable=wrong-import-position
from test_python_package import Source  # noqa: E402  pylint: disable=wrong-import-position

MASTERS = 3
SLOTS = 16384
BEFORE, AFTER = "100:100:", "200:200:"  # snapshots before and after transaction 150
TOMBSTONE = "t 7312345678901234567/1 150"


@pytest.fixture(scope="module")
def cluster(parts_folder):
    library = subprocess.run([daemon.binary(), "lua", "--cluster"], capture_output=True, text=True, check=True)
    nodes = [servers.Redis(f"{parts_folder}/node{i}", ["--cluster-enabled", "yes"]) for i in range(MASTERS)]
    for node in nodes:
        node.options += ["--cluster-port", str(process.free_port())]
        node.start()
    share = SLOTS // MASTERS + 1
    for number, node in enumerate(nodes):
        client = node.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
        client.execute_command("FUNCTION", "LOAD", library.stdout)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].options[-1])
    eventually("every master knows the whole cluster", lambda: all(
        b"cluster_state:ok" in raw(node, "CLUSTER", "INFO") and f"cluster_known_nodes:{MASTERS}".encode() in raw(node, "CLUSTER", "INFO")
        for node in nodes))
    yield nodes
    for node in nodes:
        node.stop()


def raw(node, *words):
    connection = redis.Connection(host="127.0.0.1", port=node.port)
    connection.connect()
    connection.send_command(*words)
    answer = connection.read_response()
    connection.disconnect()
    return answer


@pytest.fixture
def client(cluster):
    one = RedisCluster(host="127.0.0.1", port=cluster[0].port)
    yield one
    one.flushall(target_nodes=RedisCluster.PRIMARIES)


def cache_of(client, token=AFTER, **options):
    return reader.Cache(client, Source(token), **options)


TAGS = [f"row:items:{i}" for i in range(12)]  # in slots of every master, and none with the key


def a_page(cache, value, tags=TAGS):
    def page():
        reader.depends_on(*tags)
        return value

    return cache.cached("page:1")(page)()


@pytest.mark.parametrize("lazy", [False, True])
def test_a_value_with_tags_in_every_slot_is_kept(client, lazy):
    cache = cache_of(client, lazy=lazy)
    assert [a_page(cache, 1), a_page(cache, 2)] == [1, 1]
    assert cache.counts == {"misses": 1, "fills": 1, "hits": 1}
    assert a_page(cache_of(client, lazy=lazy), 3) == 1, "another process"
    if not lazy:
        assert all(client.zscore(f"tag:{tag}", "page:1") for tag in TAGS), "the memberships that a walk will find"


@pytest.mark.parametrize("lazy", [False, True])
def test_a_fill_is_refused_when_one_of_its_tags_was_invalidated_past_the_token(client, lazy):
    client.set(f"evictd:{{tag:{TAGS[7]}}}", TOMBSTONE, px=60_000)
    # Nothing ends a lease early when a tag refuses: others wait for it as for a reader that died.
    cache = cache_of(client, BEFORE, lazy=lazy, lease=60, wait=0.05)
    assert [a_page(cache, 1), a_page(cache, 2)] == [1, 2]
    assert not client.exists("page:1")
    assert cache.counts == {"misses": 1, "refused": 1, "busy": 1}
    client.unlink("evictd:{page:1}")  # with the lease
    cache = cache_of(client, AFTER, lazy=lazy)
    assert [a_page(cache, 3), a_page(cache, 4)] == [3, 3]


def test_a_lazy_value_is_stale_when_one_of_its_tags_was_invalidated(client):
    cache = cache_of(client, BEFORE, lazy=True)
    assert a_page(cache, 1) == 1
    client.set(f"evictd:{{tag:{TAGS[3]}}}", TOMBSTONE, px=60_000)
    other = cache_of(client, AFTER, lazy=True)
    assert [a_page(other, 2), a_page(other, 3)] == [2, 2]
    assert other.counts == {"stale": 1, "fills": 1, "hits": 1}


def test_any_bytes_and_keys_with_hash_tags(client):
    cache = cache_of(client)
    value = bytes(range(256))
    for key in (b"{user:7}:cart", b"page:\xff"):
        calls = []
        read = cache.cached(lambda key=key: key, tags=["t"], codec=reader.BYTES)(lambda: calls.append(1) or value)
        assert read() == read() == value
        assert len(calls) == 1, (key, cache.counts)


def test_asynchronously(cluster, client):
    async def main():
        async_client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster[0].port)
        cache = reader.AsyncCache(async_client, Source(AFTER))

        @cache.cached("page:async", tags=TAGS)
        async def page():
            return 7

        assert [await page(), await page()] == [7, 7]
        assert cache.counts == {"misses": 1, "fills": 1, "hits": 1}
        await async_client.close()

    asyncio.run(main())


@pytest.mark.parametrize("package, program", [("python-psycopg", "cluster.py"), ("node-pool", "cluster.mjs")])
def test_with_the_newer_clients(cluster, client, parts_folder, package, program):
    language = languages.language_or_skip(package)
    said = languages.run_program(language, program, f"{parts_folder}/{package}", {"REDIS_PORT": str(cluster[0].port)})
    assert said.splitlines()[-1] == "all cases hold", said
