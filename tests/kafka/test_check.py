"""`evictd check` and wrong settings, against a real broker and connector."""

from harness import servers
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, findings

RULES = "rules: [{table: public.items, keys: ['item:{id}', 'slug:{slug}']}]\n"


def test_what_check_says(folder, kafka, client, connect, redis):
    client.create("check.public.items", 1)
    client.produce("check.public.items", [(b"k", b"\x00\x00\x00\x00\x01avro")])
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["check.public.items", "check.public.absent"],
                      group="check", kafka_more=f"connect_url: {connect.url}")
    found, done = findings(one)
    ids = {identity for identity, *_ in found}
    assert ("KF002" in ids) and ("KF005" in ids), done.stdout + done.stderr
    assert any(identity == "KF002" and "absent" in thing for identity, _, thing, _ in found)
    assert any(identity == "KF005" and "Avro" in cause for identity, _, _, cause in found)


def test_a_committed_offset_that_is_gone(folder, kafka, client, redis):
    client.create("gone.public.items", 1)
    event = b'{"before":null,"after":{"id":1,"slug":"a"},"source":{"schema":"public","table":"items","ts_ms":1},"op":"c"}'
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["gone.public.items"], group="gone").start()
    client.produce("gone.public.items", [(b'{"id":1}', event)])
    eventually("committed", lambda: client.offsets("gone", "gone.public.items", 1)[0][0] == 1, 30, every=0.2)
    assert one.stop() == 0
    client.produce("gone.public.items", [(b'{"id":1}', event)] * 5)
    client.delete_records("gone.public.items", 0, 4)
    found, done = findings(one)
    assert any(identity == "KF003" and "3 records are gone" in cause for identity, _, _, cause in found), done.stdout


def test_what_the_connector_and_its_events_leave_out(folder, kafka, client, connect, redis):
    postgres = servers.Postgres(f"{folder}/postgres").start()
    try:
        postgres.execute("create database shop", database="postgres")
        postgres.execute("create table items (id int primary key, slug text, code int)")
        postgres.execute("insert into items values (1, 'a', 123456)")
        connect.add_postgres(postgres, "skips", skipped_operations="t", heartbeat_interval_ms="0", snapshot_mode="initial",
                             unavailable_value_placeholder="none")
        postgres.execute("update items set slug = 'b'")
        eventually("the row and its update are in Kafka", lambda: "skips.public.items" in client.topics() and sum(
            high for _, _, high in client.offsets("nobody", "skips.public.items", 3)) == 2, 30, every=0.2)
        rules = ("rules: [{table: public.items, keys: ['item:{id}', 'slug:{slug}', 'code:{code}', 'absent:{absent}']}, "
                 "{table: public.later, keys: ['later:{id}']}]\n")
        one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), rules, topics=["^skips[.]", "^skpis[.]"], group="skips",
                          kafka_more=f"connect_url: {connect.url}\non_snapshot: invalidate")
        found, done = findings(one)
        for identity, thing, cause in (
                ("KF002", "^skpis[.]", "the pattern matches no topic"),
                ("KF002", "public.later", "no topic is named after it"),
                ("KF005", "skips.public.items", "updates come without the old row; rules read old values of 'absent', 'code', "
                                                "'id', 'slug'"),
                ("KF005", "skips.public.items", "should 'code' be a date or time"),
                ("KF005", "skips.public.items", "have no column 'absent'"),
                ("KF007", "connector 'skips'", "skips truncate"), ("KF007", "connector 'skips'", "sends no heartbeats"),
                ("KF007", "connector 'skips'", "snapshot.mode=initial sends every row"),
                ("KF007", "connector 'skips'", "a placeholder of its own")):
            assert any((identity, thing) == (seen[0], seen[2]) and cause in seen[3] for seen in found), f"{cause}: {done.stdout}"
        connect.remove("skips")
    finally:
        postgres.stop("immediate")


def test_an_unreachable_broker(folder, redis):
    class Nowhere:
        brokers = "127.0.0.1:1"

    one = KafkaEvictd(f"{folder}/evictd", Nowhere, redis.url(), RULES)
    found, done = findings(one)
    assert any(identity == "KF001" for identity, *_ in found), done.stdout
    assert done.returncode == 1


def test_topics_that_forget(folder, kafka, client, redis):
    settings = {"forget.public.items": {}, "forget.public.compacted": {"cleanup.policy": "compact"},
                "forget.public.brief": {"retention.ms": "3600000"},
                "forget.public.both": {"cleanup.policy": "compact,delete", "retention.ms": "60000"},
                # Of a compacted topic that deletes nothing the time does not matter.
                "forget.public.one": {"cleanup.policy": "compact", "retention.ms": "60000"}}
    for topic, of_topic in settings.items():
        client.create(topic, 1, of_topic)
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["^forget[.]"], group="forget")
    found, done = findings(one)
    said = sorted((thing.rpartition(".")[2], severity, cause.split(":")[0]) for identity, severity, thing, cause in found
                  if identity == "KF004")
    assert said == [("both", "warning", "is compacted"), ("both", "warning", "keeps its records for 1 minutes"),
                    ("brief", "warning", "keeps its records for 60 minutes"), ("compacted", "warning", "is compacted"),
                    ("one", "warning", "is compacted")], done.stdout


def test_members_that_will_be_thrown_out(folder, kafka, client, redis):
    client.create("out.public.items", 1)

    def make(**properties):
        return KafkaEvictd(f"{folder}/{len(properties)}", kafka, redis.url(), RULES, topics=["out.public.items"], group="out",
                           properties=properties)

    def said(one):
        found, done = findings(one)
        assert done.returncode == 0, "warnings are no errors: " + done.stdout
        return sorted((thing, severity, cause) for identity, severity, thing, cause in found if identity == "KF006")

    patient = make()
    assert said(patient) == []
    named = make(**{"max.poll.interval.ms": "8000", "group.instance.id": "first"})
    impatient = ("max.poll.interval.ms", "warning",
                 "is 8000 ms: a daemon that the machine holds up for so long is thrown out of the group")
    assert said(named) == [impatient], "nobody else is there yet"
    patient.start()
    assert said(named) == [impatient], "a member without the id is none of its concern"
    named.start()
    eventually("the member is there", lambda: len(client.members("out")) == 2, 30, every=0.2)
    assert said(named) == [("group.instance.id", "warning", "'first' is in the group already, from /127.0.0.1: "
                            "the older one will be fenced and ends"), impatient]
    named.kill()
    patient.kill()


# How ExtractNewRecordState and the connector are told what to do with a delete.
TRANSFORM = {"transforms": "flat", "transforms_flat_type": "io.debezium.transforms.ExtractNewRecordState"}
DELETES = {
    "unset": {},
    "drop": {"transforms_flat_delete_tombstone_handling_mode": "drop"},
    "tombstone": {"transforms_flat_delete_tombstone_handling_mode": "tombstone", "tombstones_on_delete": "false"},
    "older_none": {"transforms_flat_delete_handling_mode": "none", "tombstones_on_delete": "false"},
    "older_kept": {"transforms_flat_drop_tombstones": "false"},
    "older_kept_of_none": {"transforms_flat_drop_tombstones": "false", "tombstones_on_delete": "false"},
}


def test_flattened_deletes_that_never_come(folder, kafka, client, connect, redis):
    """Whose deletes reach Kafka is seen there; of the others, and of no others, check says so."""
    postgres = servers.Postgres(f"{folder}/postgres").start()
    added = []

    try:
        postgres.execute("create database shop", database="postgres")
        postgres.execute("create table items (id int primary key, slug text)")
        for name, settings in DELETES.items():
            client.create(f"{name}.public.items")
            connect.add_postgres(postgres, name, **TRANSFORM, **settings)
            added.append(name)
        postgres.execute("insert into items values (1, 'a')")
        postgres.execute("delete from items")
        end = postgres.value("select pg_logical_emit_message(true, 'test', 'mark')::text")
        eventually("all of it is in Kafka", lambda: postgres.value(
            "select bool_and(confirmed_flush_lsn >= %s::pg_lsn) from pg_replication_slots", (end,)), 30)
        records = {name: client.offsets("nobody", f"{name}.public.items", 1)[0][2] for name in DELETES}
        assert set(records.values()) == {1, 2}, records
        lost = {name for name, count in records.items() if count == 1}
        one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["unset.public.items"], group="deletes",
                          kafka_more=f"connect_url: {connect.url}")
        found, done = findings(one)
        said = {thing.split("'")[1] for identity, severity, thing, cause in found
                if identity == "KF007" and severity == "error" and "a delete invalidates nothing" in cause}
        assert said == lost == {"drop", "unset", "older_kept_of_none"}, done.stdout
    finally:
        for name in added:
            connect.remove(name)
        postgres.stop("immediate")


JOINED = """rules:
  - table: public.categories
    via: {products: {table: public.products, match: {category_id: id}}}
    keys: ["product:{products.id}:page"]
"""


def test_lookups_of_joined_tables_are_tried_in_the_database(folder, kafka, redis):
    postgres = servers.Postgres(f"{folder}/postgres").start()
    try:
        postgres.execute("create database shop", database="postgres")
        postgres.execute("create table categories (id int primary key, name text); create table products (id int primary key, category_id int);"
                         "create role reader login; grant select on categories to reader; create role lister login;"
                         "grant select on categories, products to lister")
        one = KafkaEvictd(f"{folder}/lister", kafka, redis.url(), JOINED, kafka_more=f"postgres_url: {postgres.url(user='lister')}")
        said = one.command("check").stdout
        assert "PG053" in said and "no index begins with one of these" in said and "PG052" not in said, said
        one = KafkaEvictd(f"{folder}/turned", kafka, redis.url(), JOINED.replace("category_id: id", "id: category_id"), kafka_more=f"postgres_url: {postgres.url()}")
        said = one.command("check").stdout
        assert "PG052" in said and "no table 'public.categories' with (category_id)" in said, said
        one = KafkaEvictd(f"{folder}/reader", kafka, redis.url(), JOINED, kafka_more=f"postgres_url: {postgres.url(user='reader')}")
        said = one.command("check").stdout
        assert "PG052" in said and "permission denied" in said and "GRANT SELECT" in said, said
    finally:
        postgres.stop("immediate")
    said = one.command("check").stdout
    assert "PG001" in said and "rows of joined tables cannot be looked up" in said, said
