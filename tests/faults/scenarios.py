"""Scenarios that test_broken_builds.py also runs with builds that are broken on purpose, and the small steps
that several files share. Each scenario ends with the oracle's verdict."""

import threading
import time

from harness import oracle, shop
from harness.waiting import eventually


def under_load(postgres, redis, seed, **more):
    """The shop at work, slow enough that the daemon, and not the test's interpreter, is what gets tested."""
    more.setdefault("writer_pause", 0.002)
    more.setdefault("reader_pause", 0.0005)
    running = shop.Shop(postgres, redis.client, seed, **more).start()
    eventually("the shop is at work", lambda: running.writes > 20 and running.hits > 20, 30)
    return running


def cached(cache, postgres, *keys):
    """Fills keys as a reader would."""
    connection = postgres.connect()
    with connection.cursor() as cursor:
        for key in keys:
            shop.fill(cache, cursor, key)
            assert cache.exists(key)
    connection.close()


def gone(cache, *keys, seconds=15):
    eventually(f"{', '.join(keys)} gone", lambda: not cache.exists(*keys), seconds)


def acknowledged_at(postgres, slot="evictd"):
    return postgres.value("select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s", (slot,))


class RedisOutOfReach:
    """Lets a daemon lose Redis, while readers, who are connected directly, keep it."""

    def __init__(self, proxy):
        self.proxy = proxy

    def __enter__(self):
        self.proxy.tell("refuse")

    def __exit__(self, *_):
        self.proxy.tell("pass")


def killed_while_redis_is_out_of_reach(postgres, cache, evictd, proxy):
    """A change arrives while Redis cannot be reached, and the daemon is killed before it can be: whoever
    acknowledged the change has lost it (G1)."""
    evictd.start()
    cached(cache, postgres, "product:1", "product:slug:product-1", "product:2")
    with RedisOutOfReach(proxy):
        eventually("evictd notices that Redis is gone", lambda: not evictd.is_ready())
        postgres.execute("update products set price_cents = 1 where id = 1")
        end = postgres.value("select pg_current_wal_flush_lsn()::text")
        # Time enough to send an acknowledgement, had it one to send: a status is due every ten seconds at the
        # latest, and at once when a keepalive asks for it. A broken build acknowledges within a moment.
        acknowledged = False
        deadline = time.monotonic() + 6
        while not acknowledged and time.monotonic() < deadline:
            acknowledged = postgres.value("select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots "
                                          "where slot_name = 'evictd'", (end,))
            time.sleep(0.05)
        evictd.kill()
    evictd.start()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)
    assert not acknowledged, "acknowledged a change that was not applied, and was lucky"


def killed_right_after_an_acknowledgement(postgres, cache, evictd, proxy):
    """Redis is slower than the stream, so that far more is received than applied when the commit arrives. Once
    the server is told that it need not send the transaction again, every key must be gone (G1)."""
    rows = 60_000
    postgres.execute(f"create table items (id integer primary key, v integer not null); "
                     f"insert into items select i, 0 from generate_series(1, {rows}) i")
    evictd.write_rules("- table: public.items\n  keys: ['item:{id}']\n")
    evictd.start()
    keys = [f"item:{i}" for i in range(1, rows + 1)]
    cache.mset(dict.fromkeys(keys, "old"))
    # About 400 KiB per second; the keys of this transaction are some 5 MiB on their way.
    proxy.tell("slice 16384")
    proxy.tell("delay 40")
    postgres.execute("update items set v = 1")
    oracle.wait_until_acknowledged(postgres, "evictd", 120)
    evictd.kill()
    left = cache.exists(*keys)
    assert left == 0, f"acknowledged, and {left} of {rows} keys are still cached"


def refilled_before_the_commit_is_visible(postgres, cache, evictd):
    """A commit is decoded and its keys are deleted while no other session can see it yet: plain readers put
    the old row back. Only a later delete mends that (G4)."""
    evictd.start()
    cached(cache, postgres, "product:3", "product:slug:product-3")
    postgres.execute("alter system set synchronous_standby_names = 'nobody'")
    postgres.execute("select pg_reload_conf()")
    eventually("commits wait for a standby",
               lambda: postgres.value("show synchronous_standby_names") == "nobody")
    writer = threading.Thread(
        target=postgres.execute, args=("update products set price_cents = 33 where id = 3",), daemon=True)
    writer.start()
    try:
        gone(cache, "product:3")
        reader = postgres.connect().cursor()
        shop.fill(cache, reader, "product:3")
        assert b'"price_cents":300' in cache.get("product:3"), "the old row is what readers see"
        # Longer than settle: time alone must not count as visible.
        refilled_until = time.monotonic() + 3
        while time.monotonic() < refilled_until:
            shop.fill(cache, reader, "product:3")
            time.sleep(0.01)
        before = postgres.value("select pg_current_wal_flush_lsn() > confirmed_flush_lsn from pg_replication_slots "
                                "where slot_name = 'evictd'")
        shop.fill(cache, reader, "product:3")
    finally:
        postgres.execute("alter system reset synchronous_standby_names")
        postgres.execute("select pg_reload_conf()")
    writer.join(30)
    assert not writer.is_alive()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)
    assert before, "acknowledged a commit that nobody could see yet"


def rows_older_in_the_log_than_an_earlier_commit(postgres, cache, evictd):
    """Transaction A writes first and commits last; B writes and commits in between. A's rows lie before B's in
    the log, and arrive after them."""
    evictd.start()
    cached(cache, postgres, "product:4", "product:5")
    late = postgres.connect(autocommit=False)
    with late.cursor() as cursor:
        cursor.execute("update products set price_cents = 44 where id = 4")
        postgres.execute("update products set price_cents = 55 where id = 5")
        gone(cache, "product:5")
        late.commit()
    late.close()
    oracle.converge(postgres, evictd)
    cached(cache, postgres, "product:5")
    oracle.assert_true_cache(postgres, cache)
