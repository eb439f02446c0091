"""Redis is away, refuses, forgets, or answers too late. Nothing is acknowledged before it succeeded (G1)."""

import os
import re
import signal
import time

import pytest
import scenarios
from harness import oracle, shop
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually
from redis.exceptions import ResponseError


def writes_on(running, count=40):
    target = running.writes + count
    eventually("the writers write on", lambda: running.writes >= target, 60)


@pytest.fixture
def proxy(redis):
    made = Proxy(redis.port)
    yield made
    made.stop()


def test_out_of_reach_for_seconds(postgres, redis, cache, make_evictd, proxy, seed):
    evictd = make_evictd(redis_url=redis.url(port=proxy.port)).start()
    running = scenarios.under_load(postgres, redis, seed)
    with scenarios.RedisOutOfReach(proxy):
        eventually("evictd is no longer ready", lambda: not evictd.is_ready())
        begin = time.monotonic()
        eventually("lag is shown", lambda: evictd.metrics().sum("evictd_lag_seconds") > (60 if soak() else 3), 120)
        assert time.monotonic() - begin >= 2
        assert evictd.metrics().sum("evictd_redis_connected") == 0
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_reconnects_total", peer="redis") >= 1
    assert metrics.sum("evictd_reconnects_total", peer="postgres") == 0, "the stream was kept alive meanwhile"


def test_stopped_for_longer_than_a_command_may_take(postgres, redis, cache, make_evictd, seed):
    """Its answers come late, on a connection that has been given up: they must count for nothing."""
    evictd = make_evictd(redis_more="timeout: 1s").start()
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(10 if soak() else 2):
        redis.process.send_signal(signal.SIGSTOP)
        eventually("evictd gives the connection up", lambda: not evictd.is_ready(), 30)
        redis.process.send_signal(signal.SIGCONT)
        eventually("evictd is back", evictd.is_ready, 30)
        writes_on(running)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)


def test_one_that_stands_still_is_told_of_before_its_time_is_over(postgres, redis, cache, make_evictd):
    evictd = make_evictd(redis_more="timeout: 5m").start()
    cache.set("product:7", "as it was")
    redis.process.send_signal(signal.SIGSTOP)
    try:
        postgres.execute("update products set price_cents = 77 where id = 7")
        eventually("evictd says so", lambda: re.search(r"redis at '[^']+' has not replied for \d+ s", evictd.http("/readyz")[1]), 60)
        assert not evictd.is_ready()
    finally:
        redis.process.send_signal(signal.SIGCONT)
    evictd.wait_until_ready()
    assert not cache.exists("product:7")
    assert evictd.metrics().sum("evictd_reconnects_total", peer="redis") == 0


def test_cut_amid_replies(postgres, redis, cache, make_evictd, proxy, seed):
    evictd = make_evictd(redis_url=redis.url(port=proxy.port)).start()
    running = scenarios.under_load(postgres, redis, seed)
    for size in range(1, 60 if soak() else 12):
        writes_on(running, 10)
        proxy.tell(f"cut_after {size * 7}")
    proxy.tell("pass")
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)


def test_killed_clients_and_flushed_data(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    for act in ("client kill type normal skipme yes", "script flush", "flushall", "client kill type normal skipme yes"):
        writes_on(running)
        redis.client().execute_command(*act.split())
    shop.plant_sentinels(cache)  # flushed by this test itself
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)


# A state in which Redis refuses commands, and how it is left again.
REFUSALS = {
    "no replicas": (["config set min-replicas-to-write 1"], ["config set min-replicas-to-write 0"]),
    "read only": (["replicaof 127.0.0.1 1"], ["replicaof no one"]),
    # A folder where the file should be: the snapshot cannot be put into place.
    "snapshots fail": (["config set save 3600_1", "bgsave"],
                       ["config set stop-writes-on-bgsave-error no"]),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_for_a_while(postgres, redis, cache, make_evictd, seed, refusal):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    enter, leave = REFUSALS[refusal]
    administrator = redis.client()

    def run(commands):
        for command in commands:
            administrator.execute_command(*[word.replace("_", " ") for word in command.split()])

    def refuses():
        # A write that is refused like any other and changes nothing: a SET could be accepted and its DEL refused,
        # when the state begins between the two.
        try:
            administrator.delete("session:probe")
            return False
        except Exception:  # pylint: disable=broad-except
            return True

    os.makedirs(f"{redis.folder}/dump.rdb", exist_ok=True)
    run(enter)
    eventually("Redis refuses", refuses, 30)
    try:
        eventually("evictd says that it cannot write", lambda: not evictd.is_ready(), 30)
        running.stop_writers()
        end = postgres.value("select pg_current_wal_flush_lsn()::text")
        assert evictd.metrics().sum("evictd_redis_errors_total") >= 1
        postgres.execute("update products set price_cents = 77 where id = 7")
        assert not postgres.value("select confirmed_flush_lsn > %s::pg_lsn from pg_replication_slots "
                                  "where slot_name = 'evictd'", (end,)), "acknowledged what Redis refused"
    finally:
        run(leave)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache)


# Of evictd's name, with functions of its names that do something else.
OTHER_LIBRARY = """#!lua name=evictd
redis.register_function('evictd_fill', function() return 'another' end)
redis.register_function{function_name = 'evictd_version', callback = function() return 999 end, flags = {'no-writes'}}
"""


@pytest.mark.parametrize("how", [("FUNCTION", "FLUSH"), ("FUNCTION", "DELETE", "evictd"), ("FUNCTION", "LOAD", "REPLACE", OTHER_LIBRARY)],
                         ids=["flushed", "deleted", "replaced"])
def test_functions_that_somebody_took_from_readers_come_back_with_evictd_ready(cache, make_evictd, how):
    evictd = make_evictd().start()
    version = cache.fcall("evictd_version", 0)
    cache.execute_command(*how)

    def is_back():
        assert evictd.is_ready(), evictd.http("/readyz")
        try:
            return cache.fcall("evictd_version", 0) == version
        except ResponseError:
            return False

    eventually("the functions are there again", is_back, 30)
    assert cache.fcall("evictd_stats", 0)
    assert evictd.metrics().sum("evictd_reconnects_total", peer="redis") == 0


def test_full_still_deletes(postgres, redis, cache, make_evictd):
    """Out of memory Redis refuses tombstones, and still deletes (G5)."""
    evictd = make_evictd().start()
    scenarios.cached(cache, postgres, "product:1", "product:2")
    cache.config_set("maxmemory-policy", "noeviction")
    cache.config_set("maxmemory", "1mb")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    cache.config_set("maxmemory", "0")
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)


def test_the_log_tells_how_long_an_absence_was_and_at_debug_each_key(postgres, redis, cache, make_evictd, proxy):
    evictd = make_evictd("- {table: products, keys: ['product:{id}']}\n", redis_url=redis.url(port=proxy.port))
    with open(evictd.config, encoding="utf-8") as file:
        text = file.read()
    with open(evictd.config, "w", encoding="utf-8") as file:
        file.write(text.replace("level: info", "level: debug"))
    evictd.start()
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("the key is told", lambda: "redis deletes key 'product:7' of rule 'public.products', transaction " in evictd.log_text())
    with scenarios.RedisOutOfReach(proxy):
        eventually("evictd is no longer ready", lambda: not evictd.is_ready())
        time.sleep(2)
    eventually("it says for how long", lambda: re.search(r"redis connected again after [2-9]\.\d s", evictd.log_text()))
    postgres.execute("select pg_terminate_backend(pid) from pg_stat_replication")
    eventually("so of the stream", lambda: re.search(r"streaming after [0-9]\.\d s, epoch", evictd.log_text()))


def ends_in_peace(server):
    """As an administrator restarts it."""
    client = server.client()
    try:
        client.execute_command("shutdown")
    except Exception:  # pylint: disable=broad-except
        pass  # the connection ends with the server
    server.process.wait(30)


def reconnected(evictd, times):
    eventually("evictd is connected again",
               lambda: evictd.metrics().sum("evictd_reconnects_total", peer="redis") >= times and evictd.is_ready(), 60)


def test_full_still_deletes_what_is_listed_under_a_tag(postgres, redis, cache, make_evictd):
    """At its limit Redis queues no command in a transaction, whatever it does, and members leave with their values in one."""
    evictd = make_evictd("- {table: products, tags: ['category:{category_id}'], settle: 500ms}\n").start()
    category = postgres.value("select category_id from products where id = 7")
    for name in ("list:1", "list:2"):
        cache.set(name, "old")
        cache.sadd(f"tag:category:{category}", name)
    cache.config_set("maxmemory-policy", "noeviction")
    cache.config_set("maxmemory", "1mb")
    try:
        postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
        eventually("the values are gone", lambda: cache.exists("list:1", "list:2") == 0)
        oracle.wait_until_acknowledged(postgres, evictd.slot)
        assert cache.scard(f"tag:category:{category}") == 2, "nothing was full: the test shows nothing"
        assert "lost" not in evictd.log_text(), evictd.log_text()
    finally:
        cache.config_set("maxmemory", "0")
    cache.set("list:1", "of later")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("it is gone, and the members with it", lambda: cache.exists("list:1", f"tag:category:{category}") == 0)
    assert evictd.stop() == 0


def test_restarted_with_its_data(postgres, make_redis, make_evictd):
    """Nothing was lost, so nothing is purged (and an evictd that starts anew finds the same)."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    cache = server.client()
    evictd = make_evictd(redis_url=server.url()).start()
    scenarios.cached(cache, postgres, "product:1", "product:2")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    oracle.converge(postgres, evictd)
    for times in (1, 2):
        ends_in_peace(server)
        server.start()
        reconnected(evictd, times)
        postgres.execute("update products set price_cents = 2 where id = 1")
        oracle.converge(postgres, evictd)
        assert cache.exists("product:2")
        assert evictd.metrics().sum("evictd_gaps_total") == 0
    assert evictd.stop() == 0
    evictd.start()
    oracle.converge(postgres, evictd)
    assert cache.exists("product:2")
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_restarted_from_an_older_dump(postgres, make_redis, make_evictd):
    server = make_redis()
    cache = server.client()
    shop.plant_sentinels(cache)
    evictd = make_evictd(redis_url=server.url()).start()
    scenarios.cached(cache, postgres, "product:1", "product:2")
    oracle.converge(postgres, evictd)
    cache.save()
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    oracle.converge(postgres, evictd)  # acknowledged: it does not come again
    evictd.signal(signal.SIGSTOP)  # it would be quicker than we are
    assert server.stop() is not None
    server.start()
    assert cache.exists("product:1"), "the dump has it"
    evictd.signal(signal.SIGCONT)
    eventually("the rollback is seen", lambda: evictd.metrics().sum("evictd_gaps_total", reason="redis_rollback") == 1, 60)
    scenarios.gone(cache, "product:1", "product:2")
    oracle.converge(postgres, evictd)
    scenarios.cached(cache, postgres, "product:2")
    oracle.assert_true_cache(postgres, cache)


@pytest.mark.parametrize("how", ["flush", "swap"])
def test_what_is_flushed_or_swapped_under_an_open_connection_is_noticed(postgres, redis, cache, make_evictd, how):
    evictd = make_evictd(rules="- {table: products, keys: ['product:{id}'], fill: checked}\n").start()
    token = postgres.value("select pg_current_snapshot()::text")
    postgres.execute("update products set name = 'new' where id = 1")
    oracle.wait_until_acknowledged(postgres, evictd.slot)

    def fill(with_token=token):
        return cache.execute_command("FCALL", "evictd_fill", 2, "product:1", "evictd:{product:1}", with_token, 600_000, "a name")

    assert fill() == 0, "too old"
    other = redis.client(1)
    other.set("product:2", "of another time")
    cache.execute_command(*{"flush": ["FLUSHDB"], "swap": ["SWAPDB", 0, 1]}[how])
    fill()  # taken: its tombstone is gone
    eventually("it is noticed", lambda: evictd.metrics().sum("evictd_gaps_total", reason="redis_rollback") == 1, 20)
    # Readiness is published a moment after it is counted.
    eventually("it is repaired", lambda: "repaired: redis_rollback" in evictd.log_text(), 30)
    evictd.wait_until_ready()
    assert not cache.exists("product:1", "product:2")
    assert fill() == 0, "too old for what was purged"
    assert fill(postgres.value("select pg_current_snapshot()::text")) == 1
    assert "was flushed, swapped or loaded anew" in evictd.log_text()


def test_evicted_sets_of_tags_are_not_passed_over(postgres, make_redis, make_evictd):
    """Redis says how many keys it evicted, and not which. What a set of a tag listed can be stale from then on."""
    redis = make_redis("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10")
    client = redis.client()
    postgres.execute("create table pages (id int primary key, shelf int)")
    postgres.execute("alter table pages replica identity full")
    postgres.execute("create table lists (id int primary key)")
    postgres.execute("insert into pages select n, n % 10 from generate_series(1, 100) n")
    evictd = make_evictd(rules="- {table: public.pages, keys: ['page:{id}'], tags: ['shelf:{shelf}'], settle: 100ms}\n"
                               "- {table: public.lists, keys: ['list:{id}']}\n", redis_url=redis.url()).start()
    client.set("list:1", "of shelf 1, with page 1 as it was")
    client.sadd("tag:shelf:1", "list:1")
    number = 0
    while client.exists("tag:shelf:1"):
        client.set(f"other:{number}", b"x" * 20_000)
        number += 1
        assert number < 5000
    for key in client.scan_iter(match="other:*", count=1000):
        client.delete(key)

    def is_known():
        text = evictd.http("/readyz")[1]
        return "maxmemory-policy allkeys-lru" in text and "redis_rollback" not in text  # the record may have been evicted, too

    eventually("evictd says that it cannot know", is_known, 60)
    client.set("list:1", "of shelf 1, with page 1 as it was")  # which of the two goes first was chance
    client.set("page:1", "as it was")
    postgres.execute("update pages set shelf = 1 where id = 1")
    eventually("the change was carried out", lambda: not client.exists("page:1"))
    assert client.exists("list:1")
    checked = evictd.command("check", "--json")
    assert checked.returncode == 2 and '"RD012","severity":"error"' in checked.stdout, checked.stdout
    client.config_set("maxmemory-policy", "volatile-lru")
    eventually("it is ready again", evictd.is_ready, 40)
    assert not client.exists("list:1")
    assert evictd.metrics().sum("evictd_gaps_total", reason="redis_evicted") == 1
