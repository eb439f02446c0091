"""Parts of the stream are lost: evictd says so, purges what they may have touched, and only then is ready
(G6). In each of these the lost changes are ones that somebody had cached."""

import os
import shutil
import subprocess

import pytest
import scenarios
from harness import oracle, shop
from harness.fixtures import soak
from harness.waiting import eventually

KEYS = ["product:1", "product:slug:product-1", "product:2", "category:1", "config:currency", "product:1:reviews"]


def fill_everything(postgres, cache):
    scenarios.cached(cache, postgres, *KEYS)
    reader = postgres.connect().cursor()
    for listing in ("listing:1", "listing:2"):
        shop.fill(cache, reader, listing)


def lost_changes(postgres):
    postgres.execute("update products set price_cents = 1, slug = 'new-1' where id = 1; "
                     "update categories set name = 'lost' where id = 1; "
                     "update settings set value = 'CHF' where name = 'currency'; "
                     "delete from reviews where product_id = 1")


def assert_gap_was_repaired(postgres, cache, evictd, reasons):
    def repaired():
        metrics = evictd.metrics()
        counted = sum(metrics.sum("evictd_gaps_total", reason=reason) for reason in reasons)
        assert counted >= 1, f"no gap of {reasons} was counted:\n{metrics.text}"
        assert metrics.sum("evictd_gap_unresolved") == 0, "the gap is unresolved"
        return True

    # A slot made anew stands at the end of the log at once: having caught up says nothing yet.
    eventually("the gap is found and repaired", repaired, 60)
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)


def test_slot_dropped_while_away(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    assert evictd.stop() == 0
    postgres.execute("select pg_drop_replication_slot('evictd')")
    lost_changes(postgres)
    evictd.start()
    assert_gap_was_repaired(postgres, cache, evictd, ["slot_missing"])


def test_slot_dropped_while_running(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)

    def dropped():
        postgres.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'evictd'")
        try:
            postgres.execute("select pg_drop_replication_slot('evictd')")
            return True
        except Exception as error:  # pylint: disable=broad-except
            assert "is active" in str(error), error
            return False

    eventually("the slot is dropped", dropped, 20, every=0.001)
    lost_changes(postgres)
    assert_gap_was_repaired(postgres, cache, evictd, ["slot_missing", "slot_lost", "slot_moved"])


def test_slot_invalidated_by_its_size_limit(make_postgres, make_redis, folder, shop_rules):
    from harness import daemon

    postgres = make_postgres({"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
    redis = make_redis()
    cache = redis.client()
    shop.plant_sentinels(cache)
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(), redis.url(), shop_rules).start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    assert evictd.stop() == 0
    lost_changes(postgres)
    connection = postgres.connect()
    with connection.cursor() as cursor:
        for _ in range(6):
            cursor.execute("select pg_switch_wal(), pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
        cursor.execute("checkpoint")
    assert postgres.value("select wal_status from pg_replication_slots where slot_name = 'evictd'") == "lost"
    evictd.start()
    assert_gap_was_repaired(postgres, cache, evictd, ["slot_lost"])
    evictd.stop()


def test_slot_made_anew_by_somebody_else(postgres, cache, make_evictd):
    """The name is there, the history is not."""
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    assert evictd.stop() == 0
    postgres.execute("select pg_drop_replication_slot('evictd')")
    lost_changes(postgres)
    postgres.execute("select pg_create_logical_replication_slot('evictd', 'pgoutput')")
    evictd.start()
    assert_gap_was_repaired(postgres, cache, evictd, ["slot_moved"])


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_copy_of_the_server_that_is_put_back(postgres, cache, make_evictd, overtaken):
    """The same system, timeline and slot, and another log from there on: that it was set back is told by where its log ends, or by a
    transaction that does not come again."""
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    assert evictd.stop() == 0
    postgres.stop("fast")
    subprocess.run(["cp", "-a", postgres.data, f"{postgres.folder}/kept"], check=True)
    postgres.start()
    evictd.start()
    lost_changes(postgres)
    oracle.converge(postgres, evictd)
    fill_everything(postgres, cache)  # what will not have been
    assert evictd.stop() == 0
    postgres.stop("immediate")
    shutil.rmtree(postgres.data)
    os.rename(f"{postgres.folder}/kept", postgres.data)
    postgres.start()
    if overtaken:
        postgres.execute("insert into orders (product_id, quantity) select 50, 1 from generate_series(1, 20000)")
    evictd.start()
    assert_gap_was_repaired(postgres, cache, evictd, ["epoch_changed"])


def test_table_dropped_and_recreated(postgres, cache, make_evictd):
    """Its new incarnation is silently outside the publication: no event, no error."""
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    postgres.execute("drop table reviews; "
                     "create table reviews (id bigserial primary key, product_id integer not null, "
                     "rating smallint not null, body text not null); "
                     "alter table reviews replica identity full; "
                     "insert into reviews (product_id, rating, body) values (1, 1, 'lost')")
    eventually("evictd finds the new table", lambda: evictd.metrics().sum("evictd_gaps_total") >= 1, 60)
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)
    # From here on its changes are seen again.
    scenarios.cached(cache, postgres, "product:1:reviews")
    postgres.execute("insert into reviews (product_id, rating, body) values (1, 5, 'seen')")
    scenarios.gone(cache, "product:1:reviews")


def test_table_removed_from_the_publication(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    postgres.execute("alter publication evictd drop table reviews")
    postgres.execute("delete from reviews where product_id = 1")
    eventually("evictd notices", lambda: evictd.metrics().sum("evictd_gaps_total") >= 1 or not evictd.is_ready(), 60)
    oracle.converge(postgres, evictd, seconds=90)
    oracle.assert_true_cache(postgres, cache)


def test_publication_dropped(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    oracle.converge(postgres, evictd)
    postgres.execute("drop publication evictd")
    lost_changes(postgres)
    eventually("evictd notices", lambda: evictd.metrics().sum("evictd_gaps_total") >= 1, 60)
    oracle.converge(postgres, evictd, seconds=90)
    oracle.assert_true_cache(postgres, cache, at_least=0)


def test_truncate_purges_what_its_tables_map_to(postgres, cache, make_evictd):
    evictd = make_evictd().start()
    fill_everything(postgres, cache)
    scenarios.cached(cache, postgres, "product:1:sold")
    postgres.execute("truncate categories, products cascade")
    scenarios.gone(cache, "product:1", "product:2", "product:slug:product-1", "category:1", "listing:1", "listing:2")
    assert cache.exists("config:currency"), "settings were not truncated"
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)


def test_truncate_under_load(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed)

    def cached_by_readers():
        return sum(shop.parse(key.decode()) is not None for key in cache.scan_iter(count=1000))

    for table in ["reviews", "orders", "settings", "products"] * (3 if soak() else 1):
        target = running.writes + 30
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        # Each purge, and its repetition a second later, empties much of the cache: there must be something to purge.
        eventually("the readers have filled the cache", lambda: cached_by_readers() >= 50, 60)
        postgres.execute_under_load(f"truncate {table} cascade")
    running.stop_writers()
    oracle.converge(postgres, evictd)
    eventually("the readers have filled it again", lambda: cached_by_readers() >= 50, 60)
    running.stop()
    oracle.assert_true_cache(postgres, cache, at_least=50)


def test_first_start_may_purge(postgres, cache, make_evictd):
    """What was cached before the slot existed: kept or purged, by on_first_start."""
    fill_everything(postgres, cache)
    lost_changes(postgres)
    evictd = make_evictd(postgres_more="on_first_start: purge").start()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)
