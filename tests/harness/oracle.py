"""Convergence: the moment after which every cached value must equal its row."""

from . import shop as shop_model
from .waiting import eventually


def wait_until_acknowledged(postgres, slot, seconds=60, database="shop"):
    """Waits until the slot's position has passed everything committed before this call: evictd applied it
    and, where needed, settled it."""
    position = postgres.value("select pg_logical_emit_message(true, 'test', 'mark')::text", database=database)

    def passed():
        row = postgres.execute("select confirmed_flush_lsn, confirmed_flush_lsn >= %s::pg_lsn from "
                               "pg_replication_slots where slot_name = %s", (position, slot), database=database)
        assert row, f"there is no slot '{slot}'"
        assert row[0][1], f"the slot is at {row[0][0]}, the writes ended at {position}"
        return True

    eventually(f"slot '{slot}' is acknowledged past the last commit", passed, seconds)


def converge(postgres, daemon, shop=None, seconds=60):
    """Writers stop, evictd catches up while readers still refill, readers stop."""
    if shop is not None:
        shop.stop_writers()
    daemon.wait_until_ready(seconds)
    wait_until_acknowledged(postgres, daemon.slot, seconds)

    def caught_up():
        metrics = daemon.metrics()
        lag = metrics.get("evictd_lag_seconds")
        assert lag == 0, f"evictd_lag_seconds is {lag}"
        assert metrics.get("evictd_inflight_transactions") == 0, "transactions are unfinished"
        assert not metrics.get("evictd_gap_unresolved"), "a gap is unresolved"
        return True

    eventually("evictd has caught up", caught_up, seconds)
    if shop is not None:
        shop.stop()


def assert_true_cache(postgres, cache, at_least=1):
    """G1 to G5 seen from outside: every cached value equals its row and nothing else was touched."""
    found, checked = shop_model.differences(postgres, cache)
    assert not found, "the cache does not tell the truth:\n  " + "\n  ".join(found)
    assert checked >= at_least, f"only {checked} cached values were there to check: the test proves nothing"
    return checked


def is_within_the_servers_end(postgres, slot="evictd"):
    """Nothing was acknowledged that the server has not written."""
    return postgres.value("select confirmed_flush_lsn <= pg_current_wal_lsn() from pg_replication_slots where slot_name = %s", (slot,))
