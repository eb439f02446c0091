"""Members of a consumer group come, go, stand still and share, under write load: at the end every cached value equals
its row, and no change of hands is taken for a gap."""

import random
import signal

from group import event, written
from harness import oracle
from harness.waiting import eventually
from kafka_daemon import wait_for_daemons


def test_daemons_killed_added_and_removed(make_group, seed):
    """B40: kill -9, and members that come and go every few seconds."""
    choice = random.Random(seed)
    group = make_group()
    group.add()
    group.add(ready=False)
    running = group.load(seed)
    for what in choice.sample(["kill", "stop", "add", "kill and add", "stop and add", "add"], 6):
        written(running, choice.randint(40, 120))
        print(what, flush=True)
        if "kill" in what and group.daemons:
            group.kill(choice.choice(group.daemons))
        if "stop" in what and group.daemons:
            group.stop(choice.choice(group.daemons))
        if "add" in what or not group.daemons:
            group.add(ready=False)
    group.converge(running)
    assert group.gaps() == 0, "a rebalance is no gap"


def test_paused_past_the_poll_interval(make_group, seed):
    """B40: a daemon that stands still is thrown out of the group, and comes back."""
    group = make_group()
    limits = {"max.poll.interval.ms": "7000"}
    slow = group.add(properties=limits)
    other = group.add(properties=limits)
    group.wait_for_members(slow, other)
    running = group.load(seed)
    slow.signal(signal.SIGSTOP)
    group.wait_for_members(other, seconds=60)
    written(running, 50)
    slow.signal(signal.SIGCONT)
    group.wait_for_members(slow, other, seconds=60)
    written(running, 50)
    group.converge(running)
    assert group.gaps() == 0


def test_redis_out_of_reach_does_not_cost_the_membership(make_group, seed):
    """Polling goes on while Redis is stopped, so the group keeps the daemon."""
    group = make_group()
    one = group.add(properties={"max.poll.interval.ms": "6500"})
    running = group.load(seed)
    before = one.metrics().sum("evictd_kafka_rebalances_total")
    group.redis.process.send_signal(signal.SIGSTOP)
    written(running, 500)  # at 10 ms each and more: longer than the poll interval
    group.redis.process.send_signal(signal.SIGCONT)
    group.converge(running)
    assert one.metrics().sum("evictd_kafka_rebalances_total") == before


def test_three_daemons_share_twelve_partitions(make_group):
    """Four partitions each, and of the same number of events in each partition a third."""
    group = make_group(topic_creation_default_partitions="12")
    three = [group.add(ready=False, topics=[group.topic("products")]) for _ in range(3)]

    def shares():
        return sorted(len(partitions) for partitions in group.wait_for_members(*three).values())

    eventually("each has its part", lambda: shares() == [4, 4, 4], 30, every=0.2)
    before = {one: one.metrics().sum("evictd_changes_total", table="public.products") for one in three}
    group.fill(*(f"product:{number}" for number in range(1, 13)))
    for partition in range(12):
        group.client.produce(group.topic("products"), [(b'{"id":%d}' % (partition + 1), event(partition + 1, n))
                                                       for n in range(500)], partition=partition)

    def applied():
        return [one.metrics().sum("evictd_changes_total", table="public.products") - before[one] for one in three]

    eventually("all events are applied", lambda: sum(applied()) == 6000, 60)
    print("events by daemon:", applied())
    assert applied() == [2000, 2000, 2000]
    assert not group.cache.exists(*(f"product:{number}" for number in range(1, 13)))


def test_a_static_member_restarts_without_a_rebalance(make_group, seed):
    """`group.instance.id`: whoever comes back within the session gets its partitions again, the others keep theirs."""
    group = make_group()
    patient = {"session.timeout.ms": "30000"}
    first = group.add(ready=False, properties={**patient, "group.instance.id": "first"})
    second = group.add(ready=False, properties={**patient, "group.instance.id": "second"})
    before = group.wait_for_members(first, second)
    running = group.load(seed)
    rebalances = second.metrics().sum("evictd_kafka_rebalances_total")
    for end in (first.stop, first.kill):
        end()
        written(running, 50)
        first.start()
        assert group.wait_for_members(first, second) == before
    group.converge(running)
    assert second.metrics().sum("evictd_kafka_rebalances_total") == rebalances
    assert group.gaps() == 0


def test_two_daemons_of_one_instance_id(make_group, seed):
    """The older one is fenced: it ends, says why, and loses nothing."""
    group = make_group()
    older = group.add(properties={"group.instance.id": "same"})
    running = group.load(seed)
    group.add(ready=False, properties={"group.instance.id": "same"})
    eventually("one of the two has ended", lambda: not older.is_running(), 60)
    assert older.process.returncode == 1
    assert "another consumer uses the same group.instance.id" in older.log_tail()
    group.daemons.remove(older)
    written(running, 50)
    group.converge(running)
    assert group.gaps() == 0


def test_a_key_change_while_one_partition_lags(make_group):
    """B46: Debezium writes a changed key as a delete and an insert, in the partitions of either key."""
    group = make_group()
    frozen, other = (group.add(ready=False, topics=[group.topic("products")], properties={"session.timeout.ms": "45000"})
                     for _ in range(2))
    group.wait_for_members(frozen, other)
    old = [f"product:{number}" for number in range(1, 41)]
    new = [f"product:{number}" for number in range(1001, 1041)]
    untouched = [f"product:{number}" for number in range(41, 60)]
    group.fill(*old, *new, *untouched)
    frozen.signal(signal.SIGSTOP)
    group.postgres.execute("update products set id = id + 1000 where id <= 40")
    group.wait_for_debezium()
    eventually("the running one has done its part", lambda: 0 < group.cache.exists(*old, *new) < 80 and
               other.metrics().sum("evictd_kafka_lag_messages") == 0, 30)
    frozen.signal(signal.SIGCONT)
    eventually("all keys of before and after are gone", lambda: not group.cache.exists(*old, *new), 30)
    assert group.cache.exists(*untouched) == len(untouched)
    wait_for_daemons([frozen, other])
    oracle.assert_true_cache(group.postgres, group.cache, len(untouched))
