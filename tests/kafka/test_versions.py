"""Checked fills while events come through Kafka, with and without a connection to the database. Without one evictd knows
the low 32 bits of transaction ids only; Redis compares them with the snapshots of readers."""

import contextlib
import threading
import time

import pytest

from harness.waiting import eventually
from kafka_daemon import wait_for_daemons

RULES = "rules: [{table: public.products, fill: checked, keys: ['product:{id}']}]\n"


@pytest.fixture(params=["with postgres_url", "without"])
def group(make_group, request):
    made = make_group()
    made.rules = RULES
    made.add(kafka_more="" if request.param == "without" else f"postgres_url: {made.postgres.url()}")
    return made


def fill(group, key, snapshot, value="v"):
    return group.cache.execute_command("FCALL", "evictd_fill", 2, key, "evictd:{" + key + "}", snapshot, 600_000, value)


def snapshot_now(group):
    return group.postgres.value("select pg_current_snapshot()::text", database="shop")


def change(group, number):
    group.cache.set(f"product:{number}", "old")
    group.postgres.execute("update products set price_cents = price_cents + 1 where id = %s", (number,))
    eventually("the event has come", lambda: not group.cache.exists(f"product:{number}"), 30)


def test_a_fill_from_before_the_change_is_refused_and_one_from_after_it_is_not(group):
    before = snapshot_now(group)
    change(group, 1)
    assert fill(group, "product:1", before, "stale") == 0
    assert not group.cache.exists("product:1")
    assert fill(group, "product:1", snapshot_now(group), "fresh") == 1


def test_a_value_that_has_seen_the_change_is_kept(group):
    """Readers are often faster than Kafka."""
    one = group.daemons[0]
    with group.postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("update products set price_cents = 7 where id = 2")
        # The snapshot of a reader right after the commit: everything below our own id and the id itself.
        cursor.execute("select pg_current_xact_id()::text::bigint")
        xid = cursor.fetchone()[0]
        assert fill(group, "product:2", f"{xid + 1}:{xid + 1}:", "fresh") == 1
        cursor.execute("commit")
    group.wait_for_debezium()
    wait_for_daemons(group.daemons)
    eventually("the event has come", lambda: one.metrics().sum("evictd_invalidations_total", outcome="kept") == 1, 30)
    assert group.cache.get("product:2") == b"fresh"


def test_a_replay_keeps_what_was_filled_after_it(group):
    """G2: everything that was committed for the group is taken back, and read again."""
    change(group, 3)
    assert fill(group, "product:3", snapshot_now(group), "fresh") == 1
    one = group.daemons[0]
    wait_for_daemons(group.daemons)
    assert one.stop() == 0
    for partition in range(3):
        group.client.commit(group.name, group.topic("products"), partition, 0)
    one.start()
    eventually("it has read everything again", lambda: one.metrics().sum(
        "evictd_changes_total", table="public.products") >= 2, 30)
    wait_for_daemons(group.daemons)
    assert group.cache.get("product:3") == b"fresh"


def test_ids_of_the_second_round_are_told_from_those_of_the_first(make_group, request):
    """Past 2^32 transactions the stream says a small number, and readers' snapshots a large one."""
    del request
    group = make_group()
    group.rules = RULES
    group.add(kafka_more="")
    high = 3 * 2**32
    low = int(snapshot_now(group).split(":")[1])
    change(group, 4)
    xid = None
    for token in group.cache.get("evictd:{product:4}").decode().split()[2].split(","):
        assert token.startswith("~"), token
        xid = int(token[1:].rstrip("sd"))
    assert xid >= low
    assert fill(group, "product:4", f"{high + xid}:{high + xid}:") == 0, "this transaction is not among those it has seen"
    assert fill(group, "product:4", f"{high + xid + 1}:{high + xid + 1}:") == 1


@contextlib.contextmanager
def _hanging(postgres, statement):
    """The statement's commit hangs behind a standby that nobody is; with the end of the block it goes on."""
    postgres.execute("alter system set synchronous_standby_names = 'nobody'")
    postgres.execute("select pg_reload_conf()")
    eventually("commits wait for a standby", lambda: postgres.value("show synchronous_standby_names") == "nobody")
    writer = threading.Thread(target=postgres.execute, args=(statement,), daemon=True)
    writer.start()
    try:
        yield
        assert writer.is_alive(), "the commit did not hang"
    finally:
        postgres.execute("alter system reset synchronous_standby_names")
        postgres.execute("select pg_reload_conf()")
        writer.join(30)
    assert not writer.is_alive()


@pytest.mark.parametrize("fill_mode", ["plain", "checked"])
def test_a_commit_that_hangs_behind_its_standby(make_group, fill_mode):
    """Debezium sends it before anybody can see it: readers go on storing the old row. With postgres_url evictd knows (G4)."""
    group = make_group()
    group.rules = RULES.replace("checked", fill_mode)
    one = group.add(properties={"auto.commit.interval.ms": "100"})
    topic = group.topic("products")
    group.converge(at_least=0)
    before = group.client.offsets(group.name, topic, 3)
    assert all(committed == high for committed, _, high in before)
    group.cache.set("product:5", "old")
    cursor = group.postgres.connect().cursor()

    def read():
        """-> the value that a reader stored, or None where it was refused."""
        cursor.execute("select pg_current_snapshot()::text, price_cents from products where id = 5")
        snapshot, price = cursor.fetchone()
        if fill_mode == "plain":
            group.cache.set("product:5", price)
            return price
        return price if fill(group, "product:5", snapshot, price) == 1 else None

    with _hanging(group.postgres, "update products set price_cents = 55 where id = 5"):
        eventually("the event has come", lambda: not group.cache.exists("product:5"), 30)
        refilled = set()
        until = time.monotonic() + 3  # longer than `settle`: time alone must not count as visible
        while time.monotonic() < until:
            refilled.add(read())
            now = group.client.offsets(group.name, topic, 3)
            assert [committed for committed, _, _ in now] == [committed for committed, _, _ in before], now
        assert sum(high for _, _, high in now) == sum(high for _, _, high in before) + 1
        assert refilled == ({500} if fill_mode == "plain" else {None})
    group.wait_for_debezium()
    wait_for_daemons([one], 30, group.client, group.name + ".public.")
    assert group.cache.get("product:5") in (None, b"55")
    assert read() == 55 and group.cache.get("product:5") == b"55"
