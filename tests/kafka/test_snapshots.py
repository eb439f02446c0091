"""Snapshots that a connector takes when it begins anew: what changed while it was away is in no event."""

import pytest

from harness.waiting import eventually, stays
from kafka_daemon import wait_for_daemons, wait_for_debezium


def _slot(group):
    return f"debezium_{group.name}"


def _is_left(group):
    return not group.postgres.value("select active from pg_replication_slots where slot_name = %s", (_slot(group),), database="shop")


@pytest.mark.parametrize("mode, loses_its_slot", [("always", False), ("when_needed", True)])
def test_a_connector_begins_anew_with_a_snapshot(make_group, connect, mode, loses_its_slot):
    group = make_group(snapshot_mode=mode)
    one = group.add()
    wait_for_daemons([one], 60, group.client, group.name + ".public.")
    group.fill("product:1", "product:2", "config:banner", "category:1")
    connect.remove(group.name)
    eventually("the connector has left its slot", lambda: _is_left(group), 30)
    if loses_its_slot:
        group.postgres.execute("select pg_drop_replication_slot(%s)", (_slot(group),))
    # Updated, deleted, and a table of which no row is left.
    group.postgres.execute("update products set price_cents = price_cents + 1 where id = 1; delete from products where id = 2; "
                           "delete from settings")
    connect.add_postgres(group.postgres, group.name, **group.connector)
    eventually("what may have changed meanwhile is gone", lambda: not group.cache.exists("product:1", "product:2", "config:banner"), 60)
    assert "a snapshot: the connector began anew here" in one.log_text()
    group.wait_for_debezium()
    wait_for_daemons([one], 60, group.client, group.name + ".public.")
    group.fill("product:1", "product:3")
    group.postgres.execute("update products set name = name where id = 1")
    eventually("it reads on", lambda: not group.cache.exists("product:1"), 30)
    stays("one snapshot is told once", lambda: group.cache.exists("product:3"), 1)


def test_the_snapshot_that_topics_begin_with_takes_nothing(make_group, connect):
    """What was before it has never been in Kafka."""
    group = make_group()
    one = group.add(topics=[f"^{group.name}(_second)?[.]"])
    wait_for_daemons([one], 60, group.client, group.name + ".public.")
    group.fill("product:1", "product:2", "config:banner", "category:1")
    second = f"{group.name}_second"
    connect.add_postgres(group.postgres, second, **{**group.connector, "snapshot_mode": "initial"})
    try:
        wait_for_debezium(group.postgres, f"debezium_{second}")
        wait_for_daemons([one], 60, group.client, f"{second}.public.")
        group.fill("product:3")
        group.postgres.execute("update products set name = name where id = 3")
        eventually("it follows", lambda: not group.cache.exists("product:3"), 30)
        topic = f"{second}.public.products"
        rows = sum(high for _, _, high in group.client.offsets(group.name, topic, group.client.topics()[topic]))
        assert rows > 50, "the snapshot is there"
        stays("nothing else went", lambda: group.cache.exists("product:1", "product:2", "config:banner", "category:1") == 4, 1)
        assert "a snapshot: the connector began anew here" not in one.log_text()
    finally:
        connect.remove(second)
