"""The main job, end to end: rows change, keys and tags go, nothing else does."""

import json
import re
import time

import pytest
from harness import oracle, shop
from harness.waiting import eventually


def cached(cache, postgres, *keys):
    reader = postgres.connect().cursor()
    for key in keys:
        shop.fill(cache, reader, key)
        assert cache.exists(key)


def gone(cache, *keys):
    eventually(f"{', '.join(keys)} gone", lambda: not cache.exists(*keys), 15)


# A statement, what it must delete, and what it must not.
CHANGES = [
    ("update products set price_cents = 1 where id = 1",
     ["product:1", "product:slug:product-1", "listing:2"], ["product:2", "listing:3", "product:1:reviews", "config:banner"]),
    ("update products set slug = 'new-2' where id = 2",
     ["product:2", "product:slug:product-2", "product:slug:new-2"], ["product:1", "product:slug:product-1"]),
    ("update products set category_id = 5 where id = 3", ["product:3", "listing:4", "listing:5"], ["listing:1"]),
    ("delete from products where id = 4", ["product:4", "product:slug:product-4", "listing:5"], ["product:5"]),
    ("insert into products values (900, 'nine', 'Nine', 9, 1)",
     ["product:900", "product:slug:nine", "listing:1"], ["product:1"]),
    ("delete from reviews where product_id = 6", ["product:6:reviews"], ["product:6", "product:7:reviews"]),
    ("update reviews set body = 'no matter' where product_id = 7", [], ["product:7:reviews"]),
    ("update reviews set rating = 1 where product_id = 7", ["product:7:reviews"], ["product:7"]),
    ("update settings set value = 'x' where name = 'banner'", ["config:banner", "config:currency"], ["product:1"]),
    ("update categories set name = 'x' where id = 1", ["category:1", "listing:1"], ["category:2", "listing:2"]),
    ("begin; update products set price_cents = 2 where id = 8; rollback", [], ["product:8"]),
    ("truncate reviews", ["product:1:reviews", "product:7:reviews"], ["product:1", "product:1:sold"]),
    ("update products set price_cents = price_cents",
     ["product:1", "product:99", "product:slug:product-50"], ["category:1", "config:banner"]),
]


@pytest.mark.parametrize("change", CHANGES, ids=[change[0] for change in CHANGES])
def test_a_change_deletes_its_keys_and_no_others(postgres, cache, make_evictd, change):
    statement, deleted, kept = change
    evictd = make_evictd().start()
    cached(cache, postgres, *deleted, *kept)
    postgres.execute(statement)
    if deleted:
        gone(cache, *deleted)
    oracle.converge(postgres, evictd)
    assert [key for key in kept if not cache.exists(key)] == []
    oracle.assert_true_cache(postgres, cache)


def test_a_shop_under_load_ends_with_a_true_cache(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = shop.Shop(postgres, redis.client, seed, writers=4, readers=3).start()
    eventually("some thousand writes and reads", lambda: running.writes > 2000 and running.reads > 5000, 120)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=100)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_invalidations_total", outcome="deleted") > 100
    assert metrics.sum("evictd_unmappable_changes_total") == 0
    assert evictd.stop() == 0


def test_a_restart_goes_on_where_it_stopped(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    cached(cache, postgres, "product:1", "product:2")
    postgres.execute("update products set price_cents = 1 where id = 1")
    gone(cache, "product:1")
    assert evictd.stop() == 0
    postgres.execute("update products set price_cents = 2 where id = 2")
    assert cache.exists("product:2")
    evictd.start()
    gone(cache, "product:2")
    oracle.converge(postgres, evictd)
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    oracle.assert_true_cache(postgres, cache, at_least=0)


def test_what_it_says_over_http(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    gone(cache, "product:1")
    oracle.converge(postgres, evictd)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_changes_total", table="public.products", op="update") == 1
    assert metrics.sum("evictd_invalidations_total", kind="key", outcome="deleted") == 1
    assert metrics.get("evictd_source_connected") == 1
    assert metrics.get("evictd_redis_connected") == 1
    assert metrics.get("evictd_active") == 1
    assert metrics.get("evictd_gap_unresolved") == 0
    assert 0 < metrics.quantile("evictd_invalidation_latency_seconds", 0.5) < 10
    assert abs(metrics.get("evictd_last_applied_commit_timestamp_seconds") - time.time()) < 60
    assert evictd.http("/livez")[0] == 200
    assert isinstance(json.dumps(evictd.status()), str)
    code, page = evictd.http("/")
    assert code == 200 and "<html" in page.lower()


def test_drop_leaves_nothing_in_the_database(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    assert evictd.stop() == 0
    dropped = evictd.command("drop", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert postgres.value("select count(*) from pg_replication_slots") == 0
    assert postgres.value("select count(*) from pg_publication") == 0
    assert not cache.exists("evictd:record:evictd")


def test_the_examples_pass_their_own_check(postgres, redis, cache, make_evictd):
    evictd = make_evictd()
    checked = evictd.command("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_check_names_a_record_that_another_server_left(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    gone(cache, "product:1")
    oracle.converge(postgres, evictd)
    assert "PG011" not in evictd.command("check").stdout, "while it runs"
    assert evictd.stop() == 0
    assert "PG011" not in evictd.command("check").stdout
    record = cache.get("evictd:record:evictd")
    cache.set("evictd:record:evictd", re.sub(rb"\nepoch \d+/", b"\nepoch 1234567890/", record))
    checked = evictd.command("check").stdout
    assert "PG011" in checked and "expected system and timeline '1234567890/1'" in checked and "postgres.slot" in checked


def test_idle_costs_next_to_nothing(postgres, cache, make_evictd):
    """A loop that wakes for nothing keeps a core busy and shows nowhere else."""
    evictd = make_evictd().start()
    cached(cache, postgres, "product:1")
    postgres.execute("update products set price_cents = 1 where id = 1")
    gone(cache, "product:1")
    oracle.converge(postgres, evictd)
    before = evictd.cpu_seconds()
    time.sleep(4)  # what is measured is that nothing happens meanwhile
    assert evictd.cpu_seconds() - before <= 0.2
