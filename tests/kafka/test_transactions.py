"""Topics that producers with transactions write: records that end with none, that are taken back, that wait."""

import pytest

from group import event
from harness.waiting import eventually, stays
from kafka_daemon import wait_for_daemons

KEY = b'{"id":1}'


@pytest.fixture
def group(make_group):
    """A group that has finished what was written before, and a partition of the products' topic."""
    made = make_group()
    made.add()
    made.converge(at_least=0)
    return made


def _end(group):
    """(committed, low, high) of the partition that is written to."""
    return group.client.offsets(group.name, group.topic("products"), 1)[0]


def _is_read_to_its_end(group):
    committed, _, high = _end(group)
    assert committed == high, f"committed {committed} of {high}"
    return True


@pytest.mark.parametrize("ending, goes", [("commit", True), ("abort", False)])
def test_a_transaction_is_read_to_its_end(group, ending, goes):
    """The control record that ends it is given to nobody. What it leaves unread is a record that retention takes, and so
    would be a gap."""
    one = group.daemons[0]
    group.fill("product:1", "product:2")
    group.client.produce(group.topic("products"), [(KEY, event(1))], partition=0, transaction=ending)
    eventually("the end of the partition is committed", lambda: _is_read_to_its_end(group), 30, every=0.2)
    wait_for_daemons([one], 30, group.client, group.name + ".public.")
    assert bool(group.cache.exists("product:1")) != goes
    group.stop(one)
    group.client.delete_records(group.topic("products"), 0, _end(group)[2])
    group.add()
    assert group.gaps() == 0 and group.cache.exists("product:2")


def test_a_transaction_that_hangs_holds_what_is_behind_it(group):
    one = group.daemons[0]
    group.fill("product:1", "product:2")
    group.client.produce(group.topic("products"), [(KEY, event(1))], partition=0, transaction="leave")
    group.client.produce(group.topic("products"), [(KEY, event(2))], partition=0)
    eventually("the lag tells", lambda: one.metrics().sum("evictd_kafka_lag_messages") >= 2, 30)
    stays("neither is read", lambda: group.cache.exists("product:1", "product:2") == 2, 1)
    # A producer of the same id ends it.
    group.client.produce(group.topic("products"), [(KEY, event(3))], partition=0, transaction="commit")
    eventually("what was behind it is read", lambda: not group.cache.exists("product:2"), 30)
    eventually("the end of the partition is committed", lambda: _is_read_to_its_end(group), 30, every=0.2)
    assert group.cache.exists("product:1"), "it was aborted"
