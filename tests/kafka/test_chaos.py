"""Everything that happens to a consumer group, under write load: at the end every cached value equals its row."""

import json
import os
import random
import shutil
import signal

import pytest

from harness import oracle, process, servers, shop
from harness.fixtures import ROOT
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, wait_for_daemons, wait_for_debezium

TABLES = "public.products,public.categories,public.reviews,public.orders,public.settings"


class Group:
    """The shop, Debezium on it, and the daemons of one consumer group."""

    def __init__(self, folder, kafka, client, connect, name, **connector):
        self.folder, self.kafka, self.client, self.connect, self.name = folder, kafka, client, connect, name
        with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as file:
            self.rules = file.read()
        self.postgres = servers.Postgres(f"{folder}/postgres").start()
        shop.create(self.postgres, ROOT)
        self.redis = servers.Redis(f"{folder}/redis").start()
        self.cache = self.redis.client()
        shop.plant_sentinels(self.cache)
        self.daemons = []
        self.made = []
        connect.add_postgres(self.postgres, name, table_include_list=TABLES, topic_creation_default_partitions="3",
                             **connector)
        # The topics come with the first event of their table.
        self.postgres.execute("update products set name = name where id = 1; update categories set name = name where id = 1;"
                              "update reviews set body = body where id = 1; update orders set quantity = quantity "
                              "where id = 1; update settings set value = value where name = 'banner'")
        self.wait_for_debezium()

    def topic(self, table):
        return f"{self.name}.public.{table}"

    def add(self, ready=True, **more):
        more.setdefault("kafka_more", f"postgres_url: {self.postgres.url()}")
        one = KafkaEvictd(f"{self.folder}/evictd{len(self.made)}", self.kafka, self.redis.url(), self.rules,
                          topics=[f"^{self.name}[.]"], group=self.name, **more)
        self.made.append(one)
        self.daemons.append(one.start(ready=ready))
        return one

    def kill(self, one):
        one.kill()
        self.daemons.remove(one)

    def wait_for_debezium(self):
        wait_for_debezium(self.postgres, f"debezium_{self.name}")

    def load(self, seed, **more):
        more = {"writers": 2, "readers": 2, "writer_pause": 0.01, "reader_pause": 0.002, **more}
        running = shop.Shop(self.postgres, self.redis.client, seed, **more).start()
        eventually("the shop is at work", lambda: running.writes > 20 and running.hits > 20, 30)
        return running

    def converge(self, running=None, at_least=50):
        if running is not None:
            running.stop_writers()
        self.wait_for_debezium()
        for one in self.daemons:
            one.wait_until_ready(60)
        wait_for_daemons(self.daemons, 90, self.client, self.name + ".public.")
        if running is not None:
            running.stop()
        return oracle.assert_true_cache(self.postgres, self.cache, at_least)

    def gaps(self, **labels):
        return sum(one.metrics().sum("evictd_gaps_total", **labels) for one in self.daemons)

    def fill(self, *keys):
        with self.postgres.connect() as connection, connection.cursor() as cursor:
            for key in keys:
                shop.fill(self.cache, cursor, key)
                assert self.cache.exists(key)

    def close(self):
        for one in self.made:
            if one.is_running():
                one.kill()
            print(f"--- the end of {one.log}\n{one.log_tail(15)}")
        self.connect.remove(self.name)
        self.postgres.stop("immediate")
        self.redis.stop()


@pytest.fixture
def make_group(kafka, client, connect, request):
    made = []
    folder = process.temporary_folder("evictd-group-")

    def make(**connector):
        name = "g" + str(abs(hash(request.node.name)) % 10**8)
        made.append(Group(f"{folder}", kafka, client, connect, name, **connector))
        return made[-1]

    yield make
    for group in made:
        group.close()
    shutil.rmtree(folder, ignore_errors=True)


def written(running, count):
    target = running.writes + count
    eventually("the writers write on", lambda: running.writes >= target, 60)


def test_daemons_killed_added_and_removed(make_group, seed):
    """B40: kill -9, and members that come and go every few seconds."""
    choice = random.Random(seed)
    group = make_group()
    group.add()
    group.add(ready=False)
    running = group.load(seed)
    for _ in range(5):
        written(running, choice.randint(40, 120))
        what = choice.choice(["kill", "stop", "add", "kill and add"])
        print(what, flush=True)
        if "kill" in what and group.daemons:
            group.kill(choice.choice(group.daemons))
        if what == "stop" and group.daemons:
            one = choice.choice(group.daemons)
            assert one.stop() == 0
            group.daemons.remove(one)
        if "add" in what or not group.daemons:
            group.add(ready=False)
    if not group.daemons:
        group.add(ready=False)
    group.converge(running)
    assert group.gaps() == 0, "a rebalance is no gap"


def test_paused_past_the_poll_interval(make_group, seed):
    """B40: a daemon that stands still is thrown out of the group, and comes back."""
    group = make_group()
    limits = {"max.poll.interval.ms": "7000"}
    slow = group.add(properties=limits)
    group.add(properties=limits)
    running = group.load(seed)
    slow.signal(signal.SIGSTOP)
    other = next(one for one in group.daemons if one is not slow)
    eventually("the other has all partitions", lambda: len(other.status()["source"]["kafka"]["lag_messages"]) >= 5, 60) \
        if "kafka" in other.status()["source"] else written(running, 600)
    written(running, 50)
    slow.signal(signal.SIGCONT)
    written(running, 50)
    group.converge(running)


def test_redis_out_of_reach_does_not_cost_the_membership(make_group, seed):
    """Polling goes on while Redis is stopped, so the group keeps the daemon."""
    group = make_group()
    one = group.add(properties={"max.poll.interval.ms": "6500"})
    running = group.load(seed)
    before = one.metrics().sum("evictd_kafka_rebalances_total")
    group.redis.process.send_signal(signal.SIGSTOP)
    written_before = running.writes
    eventually("longer than the poll interval", lambda: running.writes > written_before + 500, 60)
    group.redis.process.send_signal(signal.SIGCONT)
    group.converge(running)
    assert one.metrics().sum("evictd_kafka_rebalances_total") == before


def test_garbage_and_avro_are_purged_and_kept(make_group, seed):
    """B45."""
    group = make_group()
    letters = f"{group.folder}/dead-letters"
    one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\ndead_letter_file: {letters}")
    group.fill("product:1", "product:2", "config:currency")
    group.client.produce(group.topic("products"), [
        (b'{"id":1}', b"garbage \xff\x00"), (b'{"id":1}', b"\x00\x00\x00\x00\x01avro"), (None, b"{}" * 1000),
        (b'{"id":1}', json.dumps({"op": "?", "after": None, "source": {}}).encode())])
    eventually("what they may have touched is gone", lambda: not group.cache.exists("product:1", "product:2"), 30)
    assert group.cache.exists("config:currency"), "another table's keys stay"
    running = group.load(seed)
    written(running, 50)
    group.converge(running)
    assert one.metrics().sum("evictd_kafka_poison_records_total") >= 3
    with open(letters, "rb") as file:
        kept = file.read()
    assert kept.count(b"evictd-dead-letter topic=" + group.topic("products").encode()) >= 3
    assert b"\x00\x00\x00\x00\x01avro" in kept


def test_committed_offsets_are_deleted(make_group, seed):
    """B41: nobody knows any more what was read, so everything is dropped once and read again."""
    group = make_group()
    one = group.add()
    running = group.load(seed)
    written(running, 50)
    assert one.stop() == 0
    group.daemons.clear()
    for topic, partitions in group.client.topics().items():
        if topic.startswith(group.name + ".public."):
            group.client.delete_offsets(group.name, topic, partitions)
    written(running, 50)
    group.add(ready=False)
    group.converge(running)
    assert group.gaps(reason="offsets_lost") > 0


def test_records_deleted_past_the_committed_offset(make_group, seed):
    """B41: retention was faster than evictd."""
    group = make_group()
    one = group.add()
    running = group.load(seed)
    written(running, 50)
    assert one.stop() == 0
    group.daemons.clear()
    written(running, 150)
    group.wait_for_debezium()
    topic = group.topic("products")
    for partition, (committed, _, high) in enumerate(group.client.offsets(group.name, topic, 3)):
        if committed >= 0 and high > committed:
            group.client.delete_records(topic, partition, high)
    group.add(ready=False)
    group.converge(running)
    assert group.gaps(reason="offset_out_of_range") > 0


def test_a_topic_is_recreated(make_group, seed):
    """B41. What was in it and not read is lost; the cache must not show it."""
    group = make_group()
    one = group.add()
    running = group.load(seed)
    written(running, 100)
    assert one.stop() == 0
    group.daemons.clear()
    written(running, 50)
    group.wait_for_debezium()
    group.client.delete(group.topic("products"))
    eventually("the topic is gone", lambda: group.topic("products") not in group.client.topics(), 30, every=0.2)
    if group.topic("products") not in group.client.topics():
        group.client.create(group.topic("products"), 3)
    group.add(ready=False)
    written(running, 100)
    group.converge(running)
    assert group.gaps() > 0


def test_partitions_are_added_and_a_new_topic_appears(make_group, seed):
    """B42: first records of either are read."""
    group = make_group()
    group.add()
    running = group.load(seed)
    group.client.add_partitions(group.topic("products"), 5)
    written(running, 100)
    group.postgres.execute("create table later (id integer primary key, v text)")
    group.converge(running)
    assert group.gaps() == 0


def test_the_broker_is_restarted(make_group, kafka, seed):
    """B43."""
    group = make_group()
    group.add()
    group.add(ready=False)
    running = group.load(seed)
    for hard in (False, True):
        kafka.stop(hard=hard)
        written(running, 50)
        kafka.start()
        written(running, 50)
    group.converge(running)
    assert os.path.exists(group.daemons[0].log)
