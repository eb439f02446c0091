"""The daemon dies or stands still at moments of a seed's choosing, under load (G1, G2)."""

import random
import signal

import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually


def test_killed_at_random_under_load(postgres, redis, cache, make_evictd, seed):
    choice = random.Random(seed)
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(60 if soak() else 6):
        written = running.writes
        target = written + choice.randint(1, 200)
        eventually("the writers write on", lambda target=target: running.writes >= target, 30, every=0.001)
        evictd.kill()
        evictd.start(ready=choice.random() < 0.7)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    assert evictd.metrics().sum("evictd_gaps_total") == 0, "a kill is no gap: everything is sent again"


def test_killed_while_redis_is_out_of_reach(postgres, redis, cache, make_evictd):
    proxy = Proxy(redis.port)
    scenarios.killed_while_redis_is_out_of_reach(postgres, cache, make_evictd(redis_url=redis.url(port=proxy.port)), proxy)
    proxy.stop()


def test_killed_amid_a_large_transaction(postgres, redis, cache, make_evictd, seed):
    choice = random.Random(seed)
    postgres.execute("insert into products select i, 'product-' || i, 'Product', i, 1 from generate_series(101, 40000) i")
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed, products=40000)
    for _ in range(3):
        postgres.execute_under_load("update products set price_cents = price_cents + 1")
        target = evictd.metrics().sum("evictd_changes_total") + choice.randint(1, 30000)
        eventually("part of it was seen",
                   lambda target=target: evictd.metrics().sum("evictd_changes_total") >= target, 30, every=0.001)
        evictd.kill()
        evictd.start(ready=False)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)


def test_stopped_for_longer_than_the_server_waits(make_postgres, make_redis, folder, shop_rules, seed):
    """SIGSTOP beyond wal_sender_timeout: the server drops the connection, the slot may still be busy."""
    from harness import daemon, shop  # the servers here are special ones

    postgres = make_postgres({"wal_sender_timeout": "2s"})
    redis = make_redis()
    cache = redis.client()
    shop.plant_sentinels(cache)
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(), redis.url(), shop_rules).start()
    running = scenarios.under_load(postgres, redis, seed)
    evictd.signal(signal.SIGSTOP)
    eventually("the server gave the connection up", lambda: not postgres.value(
        "select active from pg_replication_slots where slot_name = 'evictd'"), 60)
    evictd.signal(signal.SIGCONT)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_gaps_total") == 0
    assert metrics.sum("evictd_reconnects_total", peer="postgres") >= 1
    evictd.stop()


def test_sigterm_finishes_what_is_in_hand(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(3):
        assert evictd.stop() == 0
        evictd.start()
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_a_second_delete_is_not_put_off_by_one_death_after_the_other(postgres, cache, make_evictd):  # G4
    """Each comes before `settle` has passed since the last start, and so before the second delete that takes what a slow reader stored."""
    evictd = make_evictd("- {table: products, keys: ['product:{id}'], settle: 50s}\n").start()
    cache.set("product:7", "old")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    scenarios.gone(cache, "product:7")
    end = postgres.value("select pg_current_wal_flush_lsn()::text")
    eventually("it is on record", lambda: has_applied(cache, postgres, end))
    cache.set("product:7", "old, of a reader that began before")
    for _ in range(3):
        evictd.kill()
        evictd.start()
    eventually("what the reader stored is gone", lambda: not cache.exists("product:7"), 20)
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def has_applied(cache, postgres, end):
    record = cache.get("evictd:record:evictd").decode().split("\n")
    applied = [line.split()[1] for line in record if line.startswith("applied ")]
    return applied and postgres.value("select %s::numeric >= %s::pg_lsn - '0/0'", (applied[0], end))
