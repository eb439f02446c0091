"""PostgreSQL crashes, restarts, and wants to stop while Redis is away (G1, G7)."""

import psycopg2
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


def test_a_smart_shutdown_waits_for_the_application_and_not_for_evictd(postgres, cache, make_evictd):
    """It ends when the last ordinary session leaves by itself. evictd, and another one that stands by, leave; as long
    as somebody can write, changes are followed."""
    evictd = make_evictd().start()
    second = make_evictd().start(ready=False)
    eventually("the second one stands by", lambda: "evictd_active 0" in second.metrics().text, 30)
    scenarios.cached(cache, postgres, "product:1", "product:2")
    application = postgres.connect()
    with application.cursor() as cursor:
        postgres.begin_stop("smart")
        eventually("PostgreSQL accepts nobody", lambda: not accepts(postgres))
        cursor.execute("update products set price_cents = 1 where id = 1")
        scenarios.gone(cache, "product:1")
        # Until evictd has met the refusal: the stream must survive it.
        eventually("evictd has left its ordinary sessions",
                   lambda: sessions_of_evictd(cursor) == ["evictd"], 30)
        cursor.execute("update products set price_cents = 2 where id = 2")
        scenarios.gone(cache, "product:2")
    application.close()
    postgres.process.wait(20)
    postgres.start()
    eventually("one of them is ready", lambda: evictd.is_ready() or second.is_ready(), 30)
    oracle.wait_until_acknowledged(postgres, "evictd")
    oracle.assert_true_cache(postgres, cache, at_least=0)
    assert evictd.metrics().sum("evictd_gaps_total") + second.metrics().sum("evictd_gaps_total") == 0


def test_evictds_own_sessions_do_not_wait_for_a_standby(postgres, make_evictd):
    """The heartbeat is a transaction. Were it to wait for a synchronous standby that is away, nobody would look at the
    catalogue any more for as long: a table that leaves the publication would not be noticed (G6)."""
    evictd = make_evictd(postgres_more="heartbeat: 1s").start()
    ages = [evictd.metrics().sum("evictd_heartbeat_age_seconds")]
    postgres.execute("alter system set synchronous_standby_names = 'nobody'")
    postgres.execute("select pg_reload_conf()")
    eventually("commits wait for a standby", lambda: postgres.value("show synchronous_standby_names") == "nobody")

    def came_back(times):
        ages.append(evictd.metrics().sum("evictd_heartbeat_age_seconds"))
        return sum(later < earlier for earlier, later in zip(ages, ages[1:])) >= times

    try:
        eventually("the heartbeat comes back again and again", lambda: came_back(4), 40)
    finally:
        postgres.execute("alter system reset synchronous_standby_names")
        postgres.execute("select pg_reload_conf()")


def accepts(postgres):
    try:
        postgres.connect().close()
        return True
    except psycopg2.OperationalError as error:
        assert "shutting down" in str(error), error
        return False


def sessions_of_evictd(cursor):
    cursor.execute("select application_name from pg_stat_activity where application_name like 'evictd%' order by 1")
    return [row[0] for row in cursor.fetchall()]


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
