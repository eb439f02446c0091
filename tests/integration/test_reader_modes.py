"""What rules promise to readers that use evictd's functions: stale values with a grace, row versions, lazy tags,
namespace counters, announcements. PostgreSQL, Redis and evictd are real; the readers are written here."""

import json
import threading

import pytest
from harness import oracle
from harness.waiting import eventually


def marker(key):
    braced = "{" in key and "}" in key[key.index("{") + 2:]
    return f"evictd:{key}" if braced else f"evictd:{{{key}}}"


class Reader:
    """Fills with the snapshot of its SELECT, or with a row version."""

    def __init__(self, postgres, cache):
        self.cursor = postgres.connect().cursor()
        self.cache = cache

    def price_and_snapshot(self, product):
        self.cursor.execute("select price_cents, pg_current_snapshot()::text from products where id = %s", (product,))
        return self.cursor.fetchone()

    def fill(self, key, value, token, *tags):
        return self.cache.execute_command("FCALL", "evictd_fill", 2 + len(tags), key, marker(key), *tags, token, 600000, value)

    def get(self, key, *tags, lease=0):
        reply = self.cache.execute_command("FCALL", "evictd_get", 2 + len(tags), key, marker(key), *tags, "LEASE", lease)
        return [part.decode() if isinstance(part, bytes) else part for part in reply]

    def cached(self, product, *tags):
        price, snapshot = self.price_and_snapshot(product)
        assert self.fill(f"product:{product}", price, snapshot, *tags) == 1
        return snapshot


@pytest.fixture
def reader(postgres, cache):
    return Reader(postgres, cache)


def test_stale_value_is_served_for_its_grace_and_one_reader_refreshes_it(postgres, cache, make_evictd, reader):
    evictd = make_evictd("""
- {table: products, keys: ['product:{id}'], fill: checked, mode: stale, grace: 30s}
""").start()
    old = reader.cached(1)
    postgres.execute("update products set price_cents = 777 where id = 1")
    eventually("product:1 is stale", lambda: reader.get("product:1")[0] == "stale")
    assert cache.exists("product:1") and cache.pttl("product:1") <= 30_000
    state, value, lease, _ = reader.get("product:1", lease=5000)
    assert state == "stale" and lease, "one reader gets the lease"
    assert reader.get("product:1", lease=5000)[2] is None, "and only one"
    assert reader.fill("product:1", value, old) == 0, "the value from before is refused"
    price, snapshot = reader.price_and_snapshot(1)
    assert (price, reader.fill("product:1", price, snapshot)) == (777, 1)
    assert reader.get("product:1")[:2] == ["fresh", "777"]
    oracle.converge(postgres, evictd)
    assert reader.get("product:1")[0] == "fresh", "a settled world keeps the fresh value"
    postgres.execute("truncate products cascade")
    eventually("a truncate leaves nothing, not even stale", lambda: not cache.exists("product:1"))


def test_row_versions_decide_where_there_is_no_snapshot(postgres, cache, make_evictd, reader):
    postgres.execute("create table items (id integer primary key, v bigint, name text)")
    base = 2**53
    postgres.execute(f"insert into items values (1, {base}, 'a'), (2, {base}, 'b')")
    evictd = make_evictd("""
- {table: items, keys: ['item:{id}'], fill: checked, version: {column: v}}
""").start()
    assert reader.fill("item:1", "a", f"v:{base}") == 1
    postgres.execute(f"update items set v = {base + 1}, name = 'A' where id = 1")
    eventually("item:1 is gone", lambda: not cache.exists("item:1"))
    assert reader.fill("item:1", "a", f"v:{base}") == 0, "one apart, beyond what a double can tell"
    assert reader.fill("item:1", "A", f"v:{base + 1}") == 1
    oracle.converge(postgres, evictd)
    assert cache.exists("item:1")
    # A deleted row: whoever still holds its last version may not put it back.
    assert reader.fill("item:2", "b", f"v:{base}") == 1
    postgres.execute("alter table items replica identity full")
    postgres.execute("delete from items where id = 2")
    eventually("item:2 is gone", lambda: not cache.exists("item:2"))
    assert reader.fill("item:2", "b", f"v:{base}") == 0
    # A version that did not grow is none (G5): nothing proves a fill until the tombstone has passed.
    postgres.execute("update items set name = 'again' where id = 1")
    eventually("item:1 is gone again", lambda: not cache.exists("item:1"))
    assert reader.fill("item:1", "A", f"v:{base + 1}") == 0


def test_lazy_tag_is_one_write_and_every_value_under_it_is_stale(postgres, cache, make_evictd, reader):
    evictd = make_evictd("""
- {table: categories, tags: ['category:{id}'], fill: checked, tags_mode: lazy}
""").start()
    tag = marker("tag:category:1")
    for product in (1, 2, 3):
        reader.cached(product, tag)
    assert reader.get("product:2", tag)[0] == "fresh"
    postgres.execute("update categories set name = 'new' where id = 1")
    eventually("all are stale", lambda: [reader.get(f"product:{n}", tag)[0] for n in (1, 2, 3)] == ["stale"] * 3)
    assert not cache.exists("tag:category:1"), "there is no set"
    reader.cached(2, tag)
    assert [reader.get(f"product:{n}", tag)[0] for n in (1, 2, 3)] == ["stale", "fresh", "stale"]
    oracle.converge(postgres, evictd)
    postgres.execute("truncate categories cascade")
    eventually("a truncate reaches the markers", lambda: reader.get("product:2", tag)[0] == "stale")


def test_counter_is_raised_once_per_transaction_however_often_it_is_replayed(postgres, cache, make_evictd):
    evictd = make_evictd("""
- {table: products, bump: ['ns:catalog', 'ns:category:{category_id}']}
""").start()
    postgres.execute("update products set price_cents = 5 where category_id = 1")  # many rows, one transaction
    eventually("raised", lambda: cache.get("ns:catalog") == b"1")
    assert cache.get("ns:category:1") == b"1"
    for _ in range(20):
        postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
        evictd.kill()
        evictd.start()
    oracle.converge(postgres, evictd)
    assert cache.get("ns:catalog") == b"21"
    postgres.execute("truncate products cascade")
    eventually("a truncate raises too", lambda: cache.get("ns:catalog") == b"22")
    oracle.converge(postgres, evictd)
    assert cache.get("ns:catalog") == b"22"
    assert int(cache.get("ns:category:1")) > 1, "the counters of its pattern are raised, never deleted"


def test_counter_waits_until_the_commit_is_visible(postgres, cache, make_evictd):
    """Whoever reads the new number must read the new rows: else it would store the old ones under it for ever."""
    evictd = make_evictd("- {table: products, bump: ['ns:catalog'], keys: ['product:{id}']}\n").start()
    cache.set("product:1", "old")
    postgres.execute("alter system set synchronous_standby_names = 'nobody'")
    postgres.execute("select pg_reload_conf()")
    eventually("the setting is in force", lambda: postgres.value("show synchronous_standby_names") == "nobody")
    hanging = threading.Thread(target=lambda: postgres.execute("update products set price_cents = 9 where id = 1"))
    hanging.start()
    try:
        eventually("the event was applied", lambda: not cache.exists("product:1"))
        assert postgres.value("select price_cents from products where id = 1") != 9, "and is not visible yet"
        assert cache.get("ns:catalog") is None
    finally:
        release = postgres.connect()
        release.autocommit = True
        release.cursor().execute("set synchronous_commit = local")
        release.cursor().execute("alter system reset synchronous_standby_names")
        release.cursor().execute("select pg_reload_conf()")
        hanging.join(30)
    eventually("raised once it is visible", lambda: cache.get("ns:catalog") == b"1")
    oracle.converge(postgres, evictd)


def call(connection, *arguments):
    connection.send_command(*arguments)
    return connection.read_response()


class Subscriber:
    """An in-process cache: drops what is announced, and everything when it may have missed something."""

    def __init__(self, redis, channel):
        self.seen = []
        self.local = {}
        self.last = None
        self._pubsub = redis.client().pubsub()
        self._pubsub.subscribe(channel)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            message = self._pubsub.get_message(timeout=0.1)
            if not message or message["type"] != "message":
                continue
            announcement = json.loads(message["data"])
            self.seen.append(announcement)  # first: the test looks at it once the local copy is gone
            missed = self.last is not None and announcement["seq"] != self.last + 1
            self.last = announcement["seq"]
            if missed or announcement.get("resync"):
                self.local.clear()
            self.local.pop(announcement.get("key"), None)

    def stop(self):
        self._stop.set()
        self._thread.join()


def test_in_process_caches_hear_of_every_delete_and_drop_all_after_a_restart(postgres, redis, cache, make_evictd, reader):
    subscriber = Subscriber(redis, "shop-changes")
    # The same by Redis's own means: one connection reads, what it read is tracked, another one is told.
    told, tracked = (redis.client().connection_pool.make_connection() for _ in range(2))
    try:
        told_id = call(told, "CLIENT", "ID")
        call(told, "SUBSCRIBE", "__redis__:invalidate")
        assert call(tracked, "CLIENT", "TRACKING", "on", "REDIRECT", told_id) == b"OK"
        evictd = make_evictd("""
- {table: products, keys: ['product:{id}'], fill: checked, announce: shop-changes}
""", redis_more="tombstone_ttl: 3s").start()  # a truncate is purged again after it
        eventually("a resync at the start", lambda: any(a.get("resync") for a in subscriber.seen))
        reader.cached(1)
        subscriber.local["product:1"] = "old"
        call(tracked, "GET", "product:1")
        postgres.execute("update products set price_cents = 4242 where id = 1")
        eventually("announced", lambda: "product:1" not in subscriber.local)
        announced = subscriber.seen[-1]
        assert announced["key"] == "product:1" and announced["version"].isdigit()

        assert told.read_response() == [b"message", b"__redis__:invalidate", [b"product:1"]]

        subscriber.local["product:2"] = "kept locally"
        evictd.kill()
        evictd.start()
        eventually("a restart makes everybody drop all", lambda: not subscriber.local)
        numbers = [a["seq"] for a in subscriber.seen]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no number is missing"
        subscriber.local["product:9"] = "kept locally"
        postgres.execute("truncate products cascade")
        eventually("a truncate as well", lambda: not subscriber.local)
        oracle.converge(postgres, evictd)
    finally:
        told.disconnect()
        tracked.disconnect()
        subscriber.stop()
