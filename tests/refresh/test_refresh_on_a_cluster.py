"""`refresh:`, `evictd warm` and `evictd audit` on a real Redis Cluster of three masters: keys, their tags and evictd's record lie in many
slots, and slots move."""

import json
import shutil
import threading
import time

import pytest
from harness import cluster as clusters
from harness import daemon, oracle, process, servers, shop
from harness.waiting import eventually
from test_refresh import QUERY, VALUE, counted, fill, hold_commits, is_fresh, marker, read, rules, value_of  # noqa: F401

TAGGED = f"select id, {VALUE}, array['category:' || category_id] as tags, array['all'] as lazy_tags from products where id = any($1)"
TAGS = """
- {table: public.categories, name: categories, tags: ['category:{id}'], fill: checked}
- {table: public.switches, name: switches, tags: ['all'], tags_mode: lazy, fill: checked}
"""


@pytest.fixture(scope="module")
def shared():
    folder = process.temporary_folder()
    postgres = servers.Postgres(f"{folder}/postgres").start()
    shop.create(postgres, daemon.ROOT)
    postgres.execute("create table switches (id int primary key, n int); insert into switches values (1, 1)")
    cluster = clusters.Cluster(f"{folder}/cluster", masters=3, replicas_each=0)
    yield postgres, cluster
    postgres.stop("immediate")
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(shared):
    server = shared[0]
    yield server
    hold_commits(server, False)
    eventually("evictd is gone", lambda: server.value("select count(*) from pg_replication_slots where active") == 0)
    server.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    server.execute("drop publication if exists evictd")


@pytest.fixture
def redis(shared):
    for node in shared[1].nodes:
        node.client().flushall()
    return shared[1]


@pytest.fixture
def cache(redis):
    return redis.client()


def other_master(cluster, owner):
    return next(master for master in cluster.masters() if master != owner)


def test_what_was_used_is_filled_anew_in_whatever_slot_it_is(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, range(1, 51))
    postgres.execute("update products set price_cents = price_cents + 1")
    eventually("the fifty that were cached are again", lambda: is_fresh(postgres, cache, range(1, 51)))
    eventually("they are counted", lambda: counted(evictd, "filled") == 50)
    assert not any(cache.exists(f"product:{product}") for product in range(51, 101)), "nobody had asked for these"
    # Where a slot has gone, evictd goes.
    slot = redis.slot_of("product:7")
    owner = redis.owner_of_slot(slot)
    redis.move_slot(slot, owner, other_master(redis, owner))
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 50")
    eventually("all are again, the one of the slot that moved, too", lambda: is_fresh(postgres, cache, range(1, 51)))
    eventually("they are counted", lambda: counted(evictd, "filled") == 100)


def test_a_value_joins_its_tags_in_their_own_slots(postgres, cache, make_evictd):
    evictd = make_evictd(rules(TAGGED) + TAGS).start()
    fill(postgres, cache, [1])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("it is filled", lambda: is_fresh(postgres, cache, [1]) and counted(evictd, "filled") == 1)
    version = cache.fcall("evictd_get", 2, "product:1", marker("product:1"))[3]
    assert cache.fcall("evictd_seen", 1, marker("tag:all"), version) == 1
    postgres.execute("update switches set n = n + 1")
    eventually("the lazy tag has been invalidated", lambda: cache.fcall("evictd_seen", 1, marker("tag:all"), version) == 0)
    postgres.execute("update categories set name = name || '.' where id = (select category_id from products where id = 1)")
    eventually("its tag reaches it", lambda: cache.get("product:1") is None)


def test_a_row_that_is_not_visible_yet_is_read_again_until_it_is(postgres, cache, make_evictd):  # G3
    evictd = make_evictd(rules(TAGGED) + TAGS).start()
    fill(postgres, cache, [7])
    hold_commits(postgres, True)
    writer = threading.Thread(target=postgres.execute, args=("update products set price_cents = price_cents + 1 where id = 7",))
    writer.start()
    try:
        eventually("the delete", lambda: evictd.metrics().sum("evictd_invalidations_total", kind="key", outcome="deleted") >= 1)
        deadline = time.monotonic() + 1
        eventually("several tries", lambda: value_of(cache, 7) is not None or time.monotonic() > deadline)
        held = value_of(cache, 7)
    finally:
        hold_commits(postgres, False)
        writer.join()
    assert held is None, "a value was stored that has not seen the change"
    eventually("it is filled once it is visible", lambda: is_fresh(postgres, cache, [7]), 30)


def test_keys_go_into_a_stream_of_one_slot(postgres, cache, make_evictd):
    evictd = make_evictd("- {table: public.products, name: products, keys: ['product:{id}'], fill: checked, refresh: {stream: 'to:fill', maxlen: 100}}\n").start()
    fill(postgres, cache, [1, 2, 3])
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 3")
    eventually("they are told", lambda: counted(evictd, "told") == 3)
    assert {fields[b"key"] for _, fields in cache.xrange("to:fill")} == {b"product:1", b"product:2", b"product:3"}


def test_warm_fills_a_cold_cluster(postgres, cache, make_evictd):
    evictd = make_evictd(rules())
    refused = evictd.command("warm", "--rule", "products")
    assert refused.returncode == 1 and "no record" in refused.stderr
    evictd.start()
    oracle.converge(postgres, evictd)
    fill(postgres, cache, [1, 2])
    done = evictd.command("warm", "--rule", "products", "--where", "id <= 50")
    assert (done.returncode, done.stdout) == (0, "50 rows: 48 filled, 2 fresh\n"), done.stderr
    assert is_fresh(postgres, cache, range(1, 51)) and not cache.exists("product:51")


def audit(evictd, *arguments):
    done = evictd.command("audit", "--json", "--rate", "1000", *arguments, timeout=90)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, f"exit {done.returncode}: {done.stderr}"
    return lines.pop(), lines, done.returncode, done.stderr


def test_the_audit_reads_every_master_and_finds_what_is_stale(postgres, redis, cache, make_evictd):
    evictd = make_evictd("- {table: public.products, keys: ['product:{id}'], fill: checked}\n").start()
    fill(postgres, cache, range(1, 101))
    oracle.converge(postgres, evictd)
    counts, _, code, said = audit(evictd)
    assert (code, counts["checked"], counts["fresh"]) == (0, 100, 100), said
    # One on each master: by readers that break the rules, past the tombstone.
    chosen = {}
    for product in range(1, 101):
        chosen.setdefault(redis.owner_of(f"product:{product}"), product)
    old = {product: read(postgres, product) for product in chosen.values()}
    assert len(old) == 3
    postgres.execute("update products set price_cents = price_cents + 1 where id = any(%s)", (list(old),))
    oracle.wait_until_acknowledged(postgres, "evictd")
    for product, (value, token) in old.items():
        cache.delete(marker(f"product:{product}"))
        assert cache.fcall("evictd_fill", 2, f"product:{product}", marker(f"product:{product}"), token, 600_000, value) == 1
    counts, findings, code, said = audit(evictd)
    assert (code, counts["checked"], counts["stale"]) == (1, 100, 3), said
    assert {finding["key"] for finding in findings} == {f"product:{product}" for product in old}
    counts, findings, code, said = audit(evictd, "--fix")
    assert (code, counts["stale"]) == (1, 3) and all(finding["fixed"] for finding in findings), said
    for product, (value, token) in old.items():
        assert value_of(cache, product) is None
        assert cache.fcall("evictd_fill", 2, f"product:{product}", marker(f"product:{product}"), token, 600_000, value) == 0, "a tombstone was left"
    assert audit(evictd)[2] == 0
