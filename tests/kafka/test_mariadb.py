"""MariaDB through Debezium: no transaction ids, no snapshots for readers; the same rules."""

import os
import shutil

import pytest

import parts
from harness import process, servers
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, wait_for_daemons

RULES = """
defaults: {fill: plain, settle: 100ms}
rules:
  - table: store.items
    keys: ["item:{id}", "item:slug:{slug}"]
    tags: ["shelf:{shelf}"]
  - table: store.typed
    keys: ["t:{a}", "t:{b}", "t:{c}", "t:{d}", "t:{e}", "t:{f}", "t:{g}"]
  - table: store.versioned
    keys: ["v:{id}"]
    fill: checked
    version: {column: version}
"""


@pytest.fixture(scope="module")
def store(parts_folder, kafka, connect):
    try:
        server = parts.MariaDb(f"{parts_folder}/mariadb").start()
    except servers.ServerMissing as error:
        pytest.skip(str(error)) if not _required() else pytest.fail(str(error))
    server.sql("create database store")
    server.sql("create table items (id int primary key, slug varchar(50), shelf int not null);"
               "create table typed (a int primary key, b decimal(10,2), c datetime(3), d date, e tinyint(1), f enum('x','y'),"
               " g bigint unsigned);"
               "create table versioned (id int primary key, version bigint unsigned not null, name varchar(20))", "store")
    connect.add("store", {
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "database.hostname": "127.0.0.1", "database.port": str(server.port), "database.user": "debezium",
        "database.password": "debezium", "database.server.id": "77", "topic.prefix": "maria",
        "database.include.list": "store", "snapshot.mode": "no_data", "skipped.operations": "none",
        "schema.history.internal.kafka.bootstrap.servers": kafka.brokers,
        "schema.history.internal.kafka.topic": "schema-history", "heartbeat.interval.ms": "1000",
        "database.ssl.mode": "disable", "bigint.unsigned.handling.mode": "precise",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true", "key.converter.schemas.enable": "true",
        "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1"})
    yield server
    connect.remove("store")
    server.stop()


def _required():
    return os.environ.get("EVICTD_REQUIRE_KAFKA") == "1"


@pytest.fixture
def evictd(kafka, redis, store):
    """A group of its own each time: one that has read before and meets an empty Redis has a gap to repair."""
    folder = process.temporary_folder("evictd-maria-")
    store.sql("replace into items values (0, 'start', 0); replace into typed (a) values (0); "
              "replace into versioned values (0, 1, 'start')", "store")
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["^maria[.]store[.]"], group=os.path.basename(folder))
    one.start(ready=False)
    # Which rows are behind it is settled by a mark of its own.
    cache = redis.client()

    def sees_changes():
        cache.set("item:0", "old")
        store.sql("update items set shelf = shelf + 1 where id = 0", "store")
        eventually("the mark is gone", lambda: not cache.exists("item:0"), 3)
        return True

    eventually("evictd follows", sees_changes, 60)
    yield one
    one.kill()
    print(one.log_tail(15))
    shutil.rmtree(folder, ignore_errors=True)


def test_rows_of_mariadb_delete_their_keys(store, evictd, redis):
    cache = redis.client()
    cache.mset({"item:1": "v", "item:slug:one": "v", "item:slug:uno": "v", "item:2": "v", "item:slug:two": "v", "other": "v",
                "page": "v"})
    cache.sadd("tag:shelf:7", "page")
    store.sql("insert into items values (1, 'one', 7)", "store")
    eventually("the insert's keys and tags", lambda: not cache.exists("item:1", "item:slug:one", "page"), 20)
    cache.set("item:1", "v")
    cache.set("item:slug:one", "v")
    store.sql("update items set slug = 'uno' where id = 1", "store")
    eventually("both slugs", lambda: not cache.exists("item:1", "item:slug:one", "item:slug:uno"), 20)
    cache.set("item:1", "v")
    store.sql("update items set id = 2, slug = 'two' where id = 1", "store")
    eventually("both keys", lambda: not cache.exists("item:1", "item:2", "item:slug:two"), 20)
    cache.set("item:2", "v")
    store.sql("delete from items where id = 2", "store")
    eventually("the deleted row's key", lambda: not cache.exists("item:2"), 20)
    cache.set("item:99", "v")
    store.sql("truncate table items", "store")
    eventually("everything of the table", lambda: not cache.exists("item:99"), 20)
    assert cache.get("other") == b"v"
    wait_for_daemons([evictd])


def test_types_of_mariadb_have_their_canonical_text(store, evictd, redis):
    cache = redis.client()
    keys = ["t:5", "t:12.50", "t:2024-02-03T04:05:06.789", "t:2024-02-29", "t:1", "t:y", "t:18446744073709551615"]
    cache.mset({key: "v" for key in keys})
    store.sql("insert into typed values (5, 12.5, '2024-02-03 04:05:06.789', '2024-02-29', 1, 'y', 18446744073709551615)",
              "store")
    eventually("every key is gone", lambda: not cache.exists(*keys), 20)


def test_row_versions_of_mariadb_decide_about_fills(store, evictd, redis):
    """No snapshot, no transaction id: the row's own version, beyond what a signed number or a double can hold."""
    cache = redis.client()
    version = 2**63 + 5

    def fill(number):
        return cache.execute_command("FCALL", "evictd_fill", 2, "v:1", "evictd:{v:1}", f"v:{number}", 600000, "value")

    store.sql(f"insert into versioned values (1, {version}, 'a')", "store")
    eventually("the insert was heard of", lambda: cache.exists("evictd:{v:1}"), 20)
    assert (fill(version - 1), fill(version)) == (0, 1)
    store.sql(f"update versioned set version = {version + 1}, name = 'b' where id = 1", "store")
    eventually("deleted", lambda: not cache.exists("v:1"), 20)
    assert (fill(version), fill(version + 1)) == (0, 1)
    store.sql("delete from versioned where id = 1", "store")
    eventually("deleted with its row", lambda: not cache.exists("v:1"), 20)
    assert fill(version + 1) == 0, "whoever still holds the deleted row"


def test_what_was_acknowledged_is_not_deleted_again(store, evictd, redis, client):
    """G2 under plain fills: what the group has committed is done, whatever ends evictd."""
    cache = redis.client()
    cache.set("item:3", "v")
    store.sql("insert into items values (3, 'three', 1)", "store")
    eventually("deleted", lambda: not cache.exists("item:3"), 20)
    wait_for_daemons([evictd], client=client, prefix="maria.store.")
    cache.set("item:3", "fresh")
    evictd.kill()
    evictd.start(ready=False)
    evictd.wait_until_ready(60)
    cache.set("item:4", "v")
    store.sql("insert into items values (4, 'four', 1)", "store")
    eventually("a later change deletes", lambda: not cache.exists("item:4"), 20)
    assert cache.get("item:3") == b"fresh"


def test_a_replay_deletes_nothing_again(store, evictd, redis, client):
    """G2 under checked fills, without transaction ids: everything that was committed for the group is taken back."""
    cache = redis.client()
    store.sql("insert into versioned values (3, 7, 'a')", "store")
    eventually("the insert was heard of", lambda: cache.exists("evictd:{v:3}"), 20)
    wait_for_daemons([evictd], client=client, prefix="maria.store.")
    assert cache.execute_command("FCALL", "evictd_fill", 2, "v:3", "evictd:{v:3}", "v:7", 600000, "fresh") == 1
    assert evictd.stop() == 0
    client.commit(evictd.group, "maria.store.versioned", 0, 0)
    evictd.start(ready=False)
    evictd.wait_until_ready(60)
    eventually("it was read again", lambda: evictd.metrics().sum("evictd_changes_total", table="store.versioned") >= 2, 30)
    wait_for_daemons([evictd], client=client, prefix="maria.store.")
    assert cache.get("v:3") == b"fresh"
