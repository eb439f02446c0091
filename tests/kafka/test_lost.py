"""What Kafka forgets, and what appears in it, under write load: at the end every cached value equals its row."""

import signal

import pytest

from group import written
from harness.waiting import eventually


def test_committed_offsets_are_deleted(make_group, seed):
    """B41: nobody knows any more what was read, so everything is dropped once and read again."""
    group = make_group()
    one = group.add()
    running = group.load(seed)
    group.stop(one)
    for topic, partitions in group.client.topics().items():
        if topic.startswith(group.name + ".public."):
            group.client.delete_offsets(group.name, topic, partitions)
    written(running, 50)
    group.add(ready=False)
    group.converge(running)
    assert group.gaps(reason="offsets_lost") > 0


def trim(group, table):
    """Deletes every record of the table's topic that the group has not read. -> how many"""
    group.wait_for_debezium()
    topic, deleted = group.topic(table), 0
    for partition, (committed, _, high) in enumerate(group.client.offsets(group.name, topic, 3)):
        if committed >= 0 and high > committed:
            group.client.delete_records(topic, partition, high)
            deleted += high - committed
    return deleted


@pytest.mark.parametrize("meanwhile", ["stopped", "asleep"])
def test_records_deleted_past_the_committed_offset(make_group, seed, meanwhile):
    """B41: retention was faster than evictd, which was away, or stood still and finds out when it fetches on."""
    group = make_group()
    # Small fetches: what it has already taken when it falls asleep is not lost.
    one = group.add(properties={"session.timeout.ms": "45000", "queued.max.messages.kbytes": "16"})
    running = group.load(seed)
    written(running, 50)
    if meanwhile == "stopped":
        group.stop(one)
    else:
        one.signal(signal.SIGSTOP)
    written(running, 200)
    assert trim(group, "products") > 0
    if meanwhile == "stopped":
        group.add(ready=False)
    else:
        one.signal(signal.SIGCONT)
        eventually("it has noticed", lambda: group.gaps(reason="offset_out_of_range") > 0, 30)
    group.converge(running)
    assert group.gaps(reason="offset_out_of_range") > 0


@pytest.mark.parametrize("meanwhile", ["stopped before anything was read", "stopped", "running"])
def test_a_topic_is_recreated(make_group, seed, meanwhile):
    """B41. What was in it and not read is lost; the cache must not show it."""
    group = make_group()
    one = group.add()
    topic = group.topic("products")
    if meanwhile == "stopped before anything was read":
        group.stop(one)
    running = group.load(seed)
    written(running, 100)
    if meanwhile == "stopped":
        group.stop(one)
        written(running, 50)
    group.client.delete(topic)
    eventually("the topic is gone", lambda: topic not in group.client.topics(), 30, every=0.1)
    if meanwhile == "running":
        eventually("evictd has noticed", lambda: group.gaps(reason="topic_recreated") > 0, 30, every=0.1)
    group.client.create(topic, 3)
    if meanwhile != "running":
        group.add(ready=False)
    written(running, 200)
    group.converge(running)
    assert group.gaps() > 0


@pytest.mark.parametrize("how", ["gently", "kill -9"])
def test_a_topic_is_recreated_under_two_daemons(make_group, seed, how):
    """Offsets of the first topic, which one daemon may have left on record for the other's partitions, are no reason to
    skip anything of the second."""
    group = make_group()
    one = group.add()
    topic = group.topic("products")
    running = group.load(seed)
    written(running, 300)
    two = group.add(ready=False)
    group.wait_for_members(one, two)
    group.client.delete(topic)
    eventually("the topic is gone", lambda: topic not in group.client.topics(), 30, every=0.1)
    eventually("evictd has noticed", lambda: group.gaps(reason="topic_recreated") > 0, 30, every=0.1)
    group.client.create(topic, 3)
    written(running, 100)
    for daemon in (one, two):
        if how == "kill -9":
            group.kill(daemon)
        else:
            group.stop(daemon)
    written(running, 50)
    group.add(ready=False)
    group.converge(running)


def test_partitions_are_added(make_group, seed):
    """B42: the first records of the new ones are read."""
    group = make_group()
    one = group.add()
    running = group.load(seed)
    group.client.add_partitions(group.topic("products"), 6)

    def used():
        return all(high > 0 for _, _, high in group.client.offsets(group.name, group.topic("products"), 6)[3:])

    eventually("Debezium writes to the new partitions", used, 60, every=0.2)
    written(running, 100)
    group.converge(running)
    assert group.wait_for_members(one)[one] >= {f"{group.topic('products')}[{number}]" for number in range(6)}
    assert group.gaps() == 0


def test_a_new_topic_is_written_to_at_once(make_group, seed):
    """B42: the first change of a table makes its topic, and evictd learns of the topic later."""
    group = make_group()
    group.rules += "  - {table: public.later, keys: ['later:{id}']}\n"
    one = group.add(properties={"topic.metadata.refresh.interval.ms": "3000"})
    running = group.load(seed)
    keys = [f"later:{number}" for number in range(300)]
    group.cache.mset({key: "stale" for key in keys})
    group.postgres.execute("create table later (id integer primary key)")
    for number in range(300):
        group.postgres.execute("insert into later values (%s)", (number,))
    eventually("every key is gone", lambda: not group.cache.exists(*keys), 60)
    assert group.topic("later") in group.client.topics()
    group.converge(running)
    assert one.metrics().sum("evictd_changes_total", table="public.later") == 300
    assert group.gaps() == 0


@pytest.mark.parametrize("how", ["gently", "kill -9"])
def test_the_broker_is_restarted(make_group, kafka, seed, how):
    """B43."""
    group = make_group()
    group.add()
    group.add(ready=False)
    running = group.load(seed)
    kafka.stop(hard=how == "kill -9")
    written(running, 50)
    kafka.start()
    written(running, 50)
    group.converge(running)
    assert group.gaps() == 0
