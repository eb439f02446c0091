"""Faults of worlds whose source is Kafka: of the broker, of Debezium, of the group, and of what Kafka forgets."""

import signal

from faults import WAYS, bad_way, fault, start_again, statements
from harness.waiting import eventually
from parts import KafkaProblem
from sources import GROUP, PREFIX
from world import Failure

MEMBERS_MAX = 3
# Of those topics whose tables rules name; which table of `parts` has one depends on the world.
TABLES = ["items", "notes", "settings", "lines", "labels", "parts"]


def topic_of(world, table):
    return PREFIX + next(one for one in world.source.tables if one.startswith(table))


# The broker and the way to it. A server that stops waits for Debezium, which waits for the broker: so not together with PostgreSQL.

@fault("restart kafka", "kafka", "debezium", "postgres", draw=lambda choice: {"how": choice.choice(["killed", "stopped"])}, hold=(0.2, 4), source="kafka", weight=2)
def restart_kafka(world, how):
    world.source.broker.stop(hard=how == "killed")
    yield
    world.source.broker.start()


@fault("kafka stands still", "kafka", "debezium", "postgres", hold=(0.5, 9), source="kafka", weight=2)
def kafka_stands(world):
    world.source.broker.process.send_signal(signal.SIGSTOP)
    yield
    world.source.broker.process.send_signal(signal.SIGCONT)


@fault("a bad way to kafka", "way to kafka", source="kafka", weight=3, hold=(0.2, 8),
       draw=lambda choice: {"how": choice.choice([*WAYS, f"cut_after {choice.randint(1, 20000)}"])})
def bad_way_to_kafka(world, how):
    # Its way is cut at the end, and a member may be thrown out of the group meanwhile.
    world.source.change_hands()
    yield from bad_way(world.source.way, how)
    world.source.change_hands()


# Debezium.

@fault("restart debezium", "debezium", "postgres", draw=lambda choice: {"how": choice.choice(["killed", "stopped"])}, hold=(0.2, 3), source="kafka", weight=2)
def restart_debezium(world, how):
    world.source.is_supervised.clear()
    world.source.connect.stop(hard=how == "killed")
    yield
    world.source.connect.launch()
    world.source.is_supervised.set()


@fault("debezium stands still", "debezium", "postgres", hold=(0.5, 8), source="kafka", weight=2)
def debezium_stands(world):
    world.source.connect.process.send_signal(signal.SIGSTOP)
    yield
    world.source.connect.process.send_signal(signal.SIGCONT)


@fault("the connector is made again", "debezium", "postgres", hold=(0.2, 3), source="kafka")
def connector_is_made_again(world):
    """It goes on from the offsets that Connect has kept, and repeats what it does not know to be written."""
    source = world.source
    source.is_supervised.clear()
    eventually("the connector is removed", lambda: source.quietly(lambda: source.connect.remove("shop") or True), 30, every=0.3)
    yield
    source.is_supervised.set()


# The group.

def leaves(world, one, how):
    world.source.change_hands()
    if how == "killed":
        one.kill()
    elif (code := one.stop(patience=30)) != 0:
        world.fail(f"asked to stop, evictd ended with {code}:\n{one.log_tail(15)}")
    world.others.remove(one)


@fault("another member joins", "evictd", draw=lambda choice: {"then": choice.choice(["stays", "stopped", "killed"])}, hold=(0.5, 8), source="kafka", weight=3)
def member_joins(world, then):
    world.source.change_hands()
    one = world.make_evictd()
    world.others.append(one.start(ready=False))
    yield
    world.source.change_hands()
    if then != "stays":
        leaves(world, one, then)
    elif len(world.members()) > MEMBERS_MAX:
        leaves(world, world.others[0], "stopped")


@fault("a member goes", "evictd", draw=lambda choice: {"how": choice.choice(["stopped", "killed"])}, hold=(0.5, 8), source="kafka", weight=2)
def member_goes(world, how):
    """The first one of two or more; another one comes later."""
    if world.others:
        first = world.evictd
        world.evictd = world.others.pop()
        world.others.append(first)
        leaves(world, first, how)
    else:
        world.evictd.kill()
    yield
    start_again(world)
    world.source.change_hands()
    if not world.others:
        world.others.append(world.make_evictd().start(ready=False))


@fault("a member sleeps past its session", "evictd", hold=(7, 11), source="kafka", weight=2)
def member_sleeps(world):
    world.evictd.signal(signal.SIGSTOP)
    yield
    world.source.change_hands()
    world.evictd.signal(signal.SIGCONT)


# What Kafka forgets. While evictd is away rows change, writers end, Debezium has sent it all: whoever does not notice the loss then shows what
# was cached before, and no later change hides it. So these are alone, and each ends with a rest.

ALONE = ("evictd", "clock", "rules", "way to postgres", "way to kafka", "way to redis", "sql", "postgres", "standby names", "schema", "size", "passwords", "redis",
         "second", "kafka", "debezium")


def go_away(world, how):
    for one in world.members():
        if how == "asleep":
            one.signal(signal.SIGSTOP)
        elif how == "killed":
            one.kill()
        elif (code := one.stop(patience=30)) != 0:
            world.fail(f"asked to stop, evictd ended with {code}:\n{one.log_tail(15)}")


def come_back(world, how):
    if how == "asleep":
        world.source.change_hands()
        for one in world.members():
            one.signal(signal.SIGCONT)
    start_again(world)


def writers_end(world):
    world.writing = False
    world.source.wait_for_what_comes_before_evictd()


def administer(what, act):
    """A broker that has just come back may know of nothing yet."""
    def done():
        try:
            return (act(),)
        except KafkaProblem as problem:
            raise AssertionError(str(problem)) from problem
    return eventually(what, done, 60, every=0.3)[0]


def trim(world, table):
    """Deletes every record of the table's topic that the group has not read."""
    deleted, topic = 0, topic_of(world, table)
    for partition, (committed, low, high) in enumerate(world.source.offsets().get(topic, [])):
        first = max(committed, low)
        if high > first:
            administer("records are deleted", lambda at=partition, end=high: world.source.client.delete_records(topic, at, end))
            deleted += high - first
    world.say(f"{deleted} records of {topic} that nobody had read are deleted")


@fault("retention overtakes evictd", *ALONE, hold=(1, 4), source="kafka", weight=3,
       draw=lambda choice: {"table": choice.choice(TABLES), "meanwhile": choice.choice(["stopped", "killed", "asleep"])})
def retention_overtakes(world, table, meanwhile):
    go_away(world, meanwhile)
    yield
    writers_end(world)
    trim(world, table)
    come_back(world, meanwhile)
    world.rest()


@fault("the offsets are lost", *ALONE, hold=(0.5, 3), source="kafka", weight=2,
       draw=lambda choice: {"table": choice.choice([None, *TABLES]), "how": choice.choice(["stopped", "killed"])})
def offsets_are_lost(world, table, how):
    """Of all topics, or of one."""
    source = world.source
    go_away(world, how)
    yield
    writers_end(world)
    administer("the group is empty", lambda: eventually("the group is empty", lambda: not source.client.members(GROUP), 30, every=0.3))
    for topic, partitions in administer("the topics are known", source.topics).items():
        if table is None or topic == topic_of(world, table):
            administer("the offsets are deleted", lambda topic=topic, count=partitions: source.client.delete_offsets(GROUP, topic, count))
    come_back(world, how)
    world.rest()


@fault("a topic is made again", *ALONE, hold=(0.5, 3), source="kafka", weight=2,
       draw=lambda choice: {"table": choice.choice(TABLES), "meanwhile": choice.choice(["stopped", "killed", "asleep"])})
def topic_is_made_again(world, table, meanwhile):
    """evictd that sleeps sees the cluster without it first: of a topic that grows back faster, Kafka tells nobody that it is another one (docs/kafka.md)."""
    source, topic = world.source, topic_of(world, table)
    partitions = administer("the topics are known", source.topics)[topic]

    def gaps():
        return sum(one.metrics().sum("evictd_gaps_total") for one in world.members())
    if meanwhile == "asleep":
        for one in world.members():
            one.wait_until_ready(60)
        before = gaps()
    go_away(world, meanwhile)
    yield
    writers_end(world)
    administer("the topic is deleted", lambda: source.client.delete(topic))
    eventually("the topic is gone", lambda: topic not in administer("the topics are known", source.topics), 30, every=0.2)
    if meanwhile == "asleep":
        come_back(world, meanwhile)
    if meanwhile == "asleep" and table not in source.without_rules:
        try:
            eventually("evictd has noticed", lambda: gaps() > before, 60, every=0.2)
        except AssertionError as error:
            raise Failure(f"'{topic}' is gone, and evictd says nothing of it: {error}\n" + "\n".join(one.log_tail(15) for one in world.members())) from error
    administer("the topic is made again", lambda: source.client.create(topic, partitions))
    come_back(world, "")
    world.rest()


# What Kafka has never had.

@fault("a topic gets another partition", "kafka", "debezium", hold=(0, 1), source="kafka", draw=lambda choice: {"table": choice.choice(TABLES)})
def partition_is_added(world, table):
    """The same key goes to another partition from then on."""
    source, topic = world.source, topic_of(world, table)
    count = administer("the topics are known", source.topics).get(topic)
    if count is not None and count < 6:
        administer("a partition is added", lambda: source.client.add_partitions(topic, count + 1))
        # Until evictd and Debezium look at the topic again, which is every second.
        world.source.change_hands()
    yield


@fault("a topic appears", "kafka", "debezium", hold=(0.5, 3), source="kafka", weight=2)
def topic_appears(world):
    """That evictd's expression matches, and no rule speaks of: the members join anew, whatever they are about."""
    world.source.change_hands()
    topic = f"{PREFIX}later{len(administer('the topics are known', world.source.topics))}"
    administer("a topic is made", lambda: world.source.client.create(topic, 3))
    yield


@fault("garbage comes", "kafka", "debezium", hold=(0, 0.5), source="kafka", draw=lambda choice: {"table": choice.choice(TABLES), "count": choice.choice([1, 3, 50])})
def garbage_comes(world, table, count):
    records = [(b'{"id":1}', b"garbage \xff\x00%d" % number) for number in range(count)]
    administer("garbage is written", lambda: world.source.client.produce(topic_of(world, table), records))
    yield


# The schema, as far as rows tell of it: what changes values without a row, Debezium does not see.
SCHEMA_CHANGES = {
    "add column": ("alter table notes add column more integer default 7", "alter table notes drop column more"),
    "rename": ("alter table items rename column body to other", "alter table items rename column other to body"),
    "identity": ("alter table items replica identity default", "alter table items replica identity full"),
    "identity of lines": ("alter table lines replica identity default", "alter table lines replica identity full"),
    "vacuum full": ("vacuum full items", None),
    "hidden update": ("set session_replication_role = replica; update items set version = version + 1", None),
    "a new partition": ("create table if not exists parts_2 partition of parts for values in (2); alter table parts_2 replica identity full; "
                        "insert into parts select i, 2, (extract(epoch from clock_timestamp()) * 1000)::bigint from generate_series(1, 5) i on conflict do nothing",
                        "update parts set version = version + 1 where region = 2"),
}


@fault("the schema changes under debezium", "sql", "schema", draw=lambda choice: {"what": choice.choice(list(SCHEMA_CHANGES))}, source="kafka", weight=3)
def schema_changes(world, what):
    there, back = SCHEMA_CHANGES[what]
    statements(world, there)
    yield
    if back is not None:
        statements(world, back)
