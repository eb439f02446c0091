"""Other databases, other daemons, other rules."""

import re
import signal
import threading

import pytest
import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually


@pytest.fixture
def proxy_of():
    made = []

    def make(port):
        made.append(Proxy(port))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_an_idle_database_beside_a_busy_one_frees_its_wal(postgres, cache, make_evictd):
    postgres.execute("create database busy", database="postgres")
    evictd = make_evictd(postgres_more="heartbeat: off").start()
    postgres.execute("create table noise (t text)", database="busy")
    for _ in range(50 if soak() else 5):
        postgres.execute("insert into noise select repeat('x', 1000) from generate_series(1, 5000)", database="busy")

    def follows():
        behind = postgres.value("select pg_current_wal_lsn() - confirmed_flush_lsn from pg_replication_slots "
                                "where slot_name = 'evictd'", database="busy")
        assert behind < 2**20, f"{behind} bytes behind"
        return True

    eventually("the slot follows the busy neighbour", follows, 60)
    scenarios.cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_a_second_daemon_stands_by_and_takes_over(postgres, redis, cache, make_evictd, seed):
    first = make_evictd().start()
    second = make_evictd().start(ready=False)
    running = scenarios.under_load(postgres, redis, seed)
    eventually("the second one stands by", lambda: "evictd_active 0" in second.metrics().text, 30)
    assert first.metrics().get("evictd_active") == 1
    # What a rollout asks: the one that stands by is as it should be, and is not the one that works.
    eventually("its readiness says so", lambda: second.http("/readyz") == (503, "standby: another process holds the slot\n"))
    assert second.http("/readyz?standby=ok") == (200, "standby\n")
    assert first.http("/readyz?standby=ok") == (200, "ok\n")
    first.kill()
    second.wait_until_ready(60)
    assert second.http("/readyz?standby=ok") == (200, "ok\n")
    assert second.metrics().get("evictd_active") == 1
    oracle.converge(postgres, second, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    assert second.metrics().sum("evictd_gaps_total") == 0


def test_who_takes_over_does_not_wait_for_second_deletes_that_are_due_much_later(postgres, cache, make_evictd):
    """Who stops reads nothing any more and holds the slot: meanwhile nobody deletes."""
    late = "- {table: products, keys: ['product:{id}'], settle: 50s}\n"
    first = make_evictd(rules=late).start()
    second = make_evictd(rules=late).start(ready=False)
    eventually("the second one stands by", lambda: second.http("/readyz?standby=ok") == (200, "standby\n"), 30)
    scenarios.cached(cache, postgres, "product:7")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    scenarios.gone(cache, "product:7", seconds=30)
    assert first.stop() == 0
    assert "in hand after" not in first.log_text(), "it waited until its patience was over"
    second.wait_until_ready(60)
    scenarios.cached(cache, postgres, "product:8")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 8")
    scenarios.gone(cache, "product:8", seconds=30)
    assert second.metrics().sum("evictd_inflight_transactions") >= 2, "both second deletes are owed"


def test_a_standby_without_its_cache_is_not_as_it_should_be(postgres, redis, cache, make_evictd, proxy_of):
    proxy = proxy_of(redis.port)
    first = make_evictd().start()
    second = make_evictd(redis_url=redis.url(port=proxy.port)).start(ready=False)
    eventually("the second one stands by", lambda: second.http("/readyz?standby=ok")[0] == 200, 30)
    proxy.tell("refuse")

    def says_what_it_lacks():
        code, text = second.http("/readyz?standby=ok")
        return code == 503 and "redis is not connected\n" in text and "standby: another process holds the slot\n" in text

    eventually("it says what it lacks", says_what_it_lacks, 30)
    proxy.tell("pass")
    eventually("it has it again", lambda: second.http("/readyz?standby=ok") == (200, "standby\n"), 30)
    assert first.is_ready()


def test_a_standby_does_not_count_what_the_other_one_repairs(postgres, redis, cache, make_evictd):
    """A gap stays on record until it is repaired, which takes its settle: most of a minute here. Who came meanwhile has read of it, and has
    nothing to repair."""
    checked = "- {table: products, keys: ['product:{id}'], settle: 50s}\n"
    first = make_evictd(rules=checked).start()
    assert first.stop() == 0
    postgres.execute("select pg_drop_replication_slot('evictd')")
    first.start(ready=False)
    eventually("it is on record", lambda: b"slot_missing" in cache.get("evictd:record:evictd"), 30)
    assert first.metrics().sum("evictd_gaps_total") == 1
    second = make_evictd(rules=checked).start(ready=False)
    eventually("the second one stands by", lambda: second.http("/readyz?standby=ok") == (200, "standby\n"), 30)
    assert second.metrics().sum("evictd_gap_unresolved") == 0
    assert b"slot_missing" in cache.get("evictd:record:evictd"), "it is on record still"


def test_rules_added_by_a_reload_take_over_what_is_cached(postgres, cache, make_evictd, shop_rules):
    """What was cached before its rule existed may be stale: it is purged once."""
    without_orders = shop_rules.split("  - table: public.orders")[0]
    evictd = make_evictd(rules=without_orders).start()
    scenarios.cached(cache, postgres, "product:1:sold", "product:2")
    postgres.execute("insert into orders (product_id, quantity) values (1, 5)")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert cache.exists("product:1:sold")
    evictd.write_rules(shop_rules)
    evictd.signal(signal.SIGHUP)
    scenarios.gone(cache, "product:1:sold", seconds=60)
    eventually("the reload is counted",
               lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") == 1)
    oracle.converge(postgres, evictd)
    scenarios.cached(cache, postgres, "product:1:sold")
    postgres.execute("insert into orders (product_id, quantity) values (1, 5)")
    scenarios.gone(cache, "product:1:sold", seconds=60)
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)
    # Nothing was lost, and nobody is alarmed.
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    assert "gap in the change stream" not in evictd.log_text()
    assert "the rules name tables that were not followed until now: 'public.orders', 'public.settings'" in evictd.log_text()
    assert "added 'public.orders', 'public.settings' to publication 'evictd'" in evictd.log_text()


def test_a_rule_added_for_a_table_already_followed_purges_its_patterns_once(postgres, cache, make_evictd, shop_rules):
    evictd = make_evictd().start()
    cache.set("price:1", "old")
    evictd.write_rules(shop_rules + "  - table: public.products\n    keys: ['price:{id}']\n")
    evictd.signal(signal.SIGHUP)
    scenarios.gone(cache, "price:1")
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_a_reload_that_the_tables_do_not_carry_keeps_the_old_rules(postgres, cache, make_evictd, shop_rules):
    evictd = make_evictd().start()
    for rule, problem in (("  - table: public.nowhere\n    keys: ['n:{id}']\n", "table 'public.nowhere' does not exist"),
                          ("  - table: public.orders\n    keys: ['n:{nr}']\n", "names column 'nr'")):
        failed = evictd.metrics().sum("evictd_rules_reload_total", outcome="failure")
        evictd.write_rules(shop_rules + rule)
        evictd.signal(signal.SIGHUP)
        eventually("the reload is refused",
                   lambda failed=failed: evictd.metrics().sum("evictd_rules_reload_total", outcome="failure") == failed + 1)
        assert problem in evictd.log_text()
    scenarios.cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    assert evictd.is_ready()
    assert evictd.metrics().sum("evictd_rules_reload_total", outcome="success") == 0


def test_a_reload_while_postgres_is_away_is_done_when_it_is_back(postgres, cache, make_evictd, shop_rules):
    """Whoever sent the signal is gone by then, and is not told."""
    evictd = make_evictd().start()
    cache.set("price:1", "old")
    postgres.stop("fast")
    evictd.write_rules(shop_rules + "  - table: public.products\n    keys: ['price:{id}']\n")
    evictd.signal(signal.SIGHUP)
    eventually("it is put off", lambda: "the rules are reloaded later: until then the old ones stay" in evictd.log_text())
    assert cache.exists("price:1")
    postgres.start()
    scenarios.gone(cache, "price:1", seconds=60)
    eventually("the reload is counted", lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") == 1)
    told = re.findall("cannot compare the rules with the tables: (.*)", evictd.log_text())
    # A session from before may be found ended first.
    assert len(told) == len(set(told)) <= 2, "once a second for as long as it is away"
    cache.set("price:1", "filled anew")
    cache.set("price:1", "filled anew")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "price:1")


def test_a_bad_reload_keeps_the_old_rules(postgres, cache, make_evictd, shop_rules):
    evictd = make_evictd().start()
    evictd.write_rules("rules:\n  - table: public.products\n    kyes: ['product:{id}']\n")
    evictd.signal(signal.SIGHUP)
    eventually("it says what is wrong and where", lambda: "rules.yaml:3:5: unknown setting 'kyes'" in evictd.log_text())
    scenarios.cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    assert evictd.is_ready()


def test_a_reload_tells_of_settings_that_it_does_not_read(postgres, cache, make_evictd, shop_rules):
    evictd = make_evictd().start()
    with open(evictd.config, encoding="utf-8") as file:
        before = file.read()
    told = "is not what it was when evictd was started"

    def reload(text, count):
        with open(evictd.config, "w", encoding="utf-8") as file:
            file.write(text)
        evictd.signal(signal.SIGHUP)
        eventually("it reloads", lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") == count)

    reload("# a comment\n" + before, 1)
    assert told not in evictd.log_text()
    for count, (setting, other) in enumerate([("level: info", "level: debug"), ("rules: rules.yaml", "rules: others.yaml"), ("format: text", "fromat: [")], 2):
        assert setting in before
        reload(before.replace(setting, other), count)
        assert evictd.log_text().count(told) == count - 1
    assert evictd.is_ready()


def test_writers_are_never_blocked(postgres, redis, cache, make_evictd):
    """With Redis stopped and the daemon stopped, the application still writes (G7)."""
    evictd = make_evictd().start()
    redis.process.send_signal(signal.SIGSTOP)
    evictd.signal(signal.SIGSTOP)
    writer = threading.Thread(target=postgres.execute, args=("update products set price_cents = 9",), daemon=True)
    writer.start()
    writer.join(30)
    assert not writer.is_alive()
    redis.process.send_signal(signal.SIGCONT)
    evictd.signal(signal.SIGCONT)
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)
