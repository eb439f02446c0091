"""PostgreSQL crashes, restarts, and wants to stop while Redis is away (G1, G7)."""

import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually


def test_immediate_restarts_under_load(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(10 if soak() else 3):
        target = running.writes + 50
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        postgres.stop("immediate")
        postgres.start()
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    assert evictd.metrics().sum("evictd_reconnects_total", peer="postgres") >= 1


def test_a_fast_shutdown_is_not_held_up_by_a_missing_redis(postgres, redis, cache, make_evictd):
    proxy = Proxy(redis.port)
    evictd = make_evictd(redis_url=redis.url(port=proxy.port)).start()
    scenarios.cached(cache, postgres, "product:1", "product:2")
    with scenarios.RedisOutOfReach(proxy):
        postgres.execute("update products set price_cents = 1 where id = 1")
        eventually("the change waits for Redis",
                   lambda: evictd.metrics().sum("evictd_inflight_transactions") >= 1)
        postgres.begin_stop("fast")
        # shutdown_grace is 5 s; without it PostgreSQL would wait for ever.
        postgres.process.wait(20)
    assert cache.exists("product:1")
    postgres.start()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)
    assert not cache.exists("product:1")
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    proxy.stop()


def test_a_killed_walsender_costs_a_reconnect(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(3):
        target = running.writes + 30
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        assert postgres.value("select pg_terminate_backend(active_pid) from pg_replication_slots "
                              "where slot_name = 'evictd' and active_pid is not null") is not False
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
