"""One corpus of changes, read both ways: through pgoutput, and through Debezium on Kafka. The keys are the same."""

import collections
import re
import socket
import threading

import pytest

from harness import daemon
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, wait_for_daemons, wait_for_debezium
from registry import Registry

# What Debezium does not tell, docs/kafka.md says ("Types"): the length of a `bit varying`, trailing zeros of a `numeric`
# without a scale, a `bit(1)`, and others. The corpus has none of these.

# Columns by what they need of Debezium: with a schema everything has its type; without one, these.
PLAIN = {"id": "integer primary key", "c_small": "smallint", "c_big": "bigint", "c_text": "text", "c_varchar": "varchar(20)",
         "c_char": "char(5)", "c_bool": "boolean not null default false", "c_uuid": "uuid", "c_enum": "mood",
         "c_inet": "inet", "c_cidr": "cidr", "c_macaddr": "macaddr", "c_citext": "text"}
TYPED = {"c_json": "json", "c_jsonb": "jsonb", "c_date": "date", "c_time": "time", "c_timestamp": "timestamp", "c_timestamptz": "timestamptz",
         "c_numeric": "numeric(10,2)", "c_free_numeric": "numeric", "c_real": "real", "c_double": "double precision",
         "c_bytea": "bytea", "c_bit": "bit(3)", "c_ints": "integer[]",
         "c_texts": "text[]", "c_xml": "xml", "c_range": "int4range", "c_interval": "interval", "c_bools": "boolean[]",
         "c_dates": "date[]", "c_moments": "timestamptz[]", "c_price": "price"}
COLUMNS = {**PLAIN, **TYPED}

ROWS = [
    # A row of ordinary values, one of extremes, one of NULLs, one of empty and odd texts.
    {"c_small": "-1", "c_big": "9007199254740993", "c_text": "'plain'", "c_varchar": "'ab'", "c_char": "'ab'", "c_bool": "true",
     "c_uuid": "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "c_json": "'{\"a\": [1, 2]}'", "c_jsonb": "'{\"b\": {\"c\": null}}'",
     "c_enum": "'happy'", "c_inet": "'192.168.0.1'", "c_cidr": "'10.0.0.0/8'", "c_macaddr": "'08:00:2b:01:02:03'",
     "c_citext": "'x'", "c_date": "'2024-02-29'", "c_time": "'04:05:06.789'", "c_timestamp": "'2024-02-03 04:05:06.789'",
     "c_timestamptz": "'2024-02-03 04:05:06.789+02'", "c_numeric": "12.5", "c_free_numeric": "123.45", "c_real": "1.1",
     "c_double": "1e20", "c_bytea": "'\\xdeadbeef'", "c_bit": "b'101'", "c_ints": "'{1,2,NULL}'",
     "c_texts": "'{a,\"b c\",\"\",\"x,y\"}'", "c_xml": "'<a>1</a>'", "c_range": "'[1,5)'"},
    {"c_small": "32767", "c_big": "-9223372036854775808", "c_text": "E'tab\\tquote\"back\\\\ \u00e4\u20ac\U0001f600'", "c_bool": "false",
     "c_date": "'0001-01-01'", "c_time": "'23:59:59.999999'", "c_timestamp": "'1969-12-31 23:59:59.999999'",
     "c_timestamptz": "'1999-12-31 23:00:00-05'", "c_numeric": "-99999999.99", "c_free_numeric":
     "123456789012345678901234567890.000000000001", "c_real": "-3.4e38", "c_double": "0.1", "c_bytea": "''", "c_bit": "b'000'",
     "c_ints": "'{}'", "c_texts": "'{}'", "c_json": "'[]'", "c_jsonb": "'[1,  {\"k\":\"v w\"}]'"},
    {"c_date": "'infinity'", "c_timestamp": "'infinity'", "c_timestamptz": "'infinity'", "c_real": "'NaN'", "c_double": "'-0'",
     "c_interval": "'1 year 2 mons 3 days 04:05:06.789'", "c_bools": "'{t,f,NULL}'", "c_dates": "'{2024-02-29}'",
     "c_moments": "'{2024-02-03 04:05:06.7+02}'", "c_price": "5.1"},
    {"c_date": "'-infinity'", "c_timestamp": "'-infinity'", "c_timestamptz": "'-infinity'", "c_real": "'-Infinity'",
     "c_double": "5e-324", "c_interval": "'-1 mons +2 days -00:00:01.5'", "c_price": "-0.00"},
    {"c_date": "'0044-03-15 BC'", "c_timestamp": "'0044-03-15 10:00 BC'", "c_timestamptz": "'0044-03-15 10:00+00 BC'",
     "c_interval": "'-1 days -01:00'"},
    {"c_date": "'12024-01-01'", "c_timestamp": "'12024-01-01 00:00:00.5'", "c_timestamptz": "'12024-01-01 00:00:00.5+00'",
     "c_interval": "'0'"},
    {},
    {"c_text": "''", "c_varchar": "''", "c_char": "''", "c_real": "1e-5", "c_double": "123456789012345",
     "c_numeric": "0", "c_free_numeric": "0", "c_date": "'1970-01-01'", "c_timestamp": "'1970-01-01'",
     "c_timestamptz": "'1970-01-01+00'", "c_time": "'00:00'", "c_small": "0", "c_big": "0"},
]


def statements():
    """The corpus: every row inserted, changed in every column, moved to another key, deleted; then the rest."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    yield "create type mood as enum ('sad', 'happy')"
    yield "create domain price as numeric(10,2)"
    yield f"create table every ({columns})"
    yield "alter table every replica identity full"
    yield "create table plain (id integer primary key, slug text, body text, nums integer[])"
    yield "alter table plain alter body set storage external, alter nums set storage external"
    yield "create table keyed (a integer, b text, v text, primary key (a, b))"
    yield ("create table defaulted (id integer primary key, status text not null default 'active', stock integer not null "
           "default 5, note text default 'none', slug text)")
    yield None  # both daemons are set up here
    for number, row in enumerate(ROWS, 1):
        yield f"insert into every (id{''.join(', ' + c for c in row)}) values ({number}{''.join(', ' + v for v in row.values())})"
    for column in COLUMNS:
        if column not in ("id", "c_bool"):
            yield f"update every set {column} = null where id = 1"
    yield "update every set c_bool = not c_bool"
    yield "update every set id = id + 100 where id in (2, 3)"
    yield "delete from every where id in (4, 102)"
    # The default replica identity, unchanged TOAST, key changes.
    yield ("insert into plain values (1, 'one', repeat('x', 10000), (select array_agg(i) from generate_series(1, 5000) i)), "
           "(2, 'two', 'short', '{1}'), (3, null, null, null)")
    yield "update plain set slug = 'uno' where id = 1"
    yield "update plain set id = 20 where id = 2"
    yield "delete from plain where id = 3"
    yield "insert into keyed values (1, 'x:y', 'v'), (1, 'z', 'v')"
    yield "update keyed set v = 'w'"
    yield "update keyed set b = 'zz' where b = 'z'"
    yield "delete from keyed where b = 'x:y'"
    # Old values that nobody sent, and Debezium writes as the defaults of their columns.
    yield "insert into defaulted values (1, 'gone', 7, null, 's')"
    yield "delete from defaulted"
    yield "truncate keyed"
    yield "insert into keyed values (9, 'after', 'v')"


def rules():
    text = "defaults: {fill: plain, settle: 100ms}\nrules:\n  - table: public.every\n    keys:\n"
    text += "".join(f"      - '{name}:{{{name}}}'\n" for name in COLUMNS)
    # An element has the text that a column of its type has.
    text += "    tags: ['every:{c_small}', 'upper:{c_text|upper}', 'c_bools:{c_bools.*}', 'c_dates:{c_dates.*}', 'c_moments:{c_moments.*}']\n"
    text += "  - {table: public.plain, keys: ['plain:{id}']}\n"
    # Old slugs are not sent: what they may be is purged, and the row that keeps them shows how far that reaches.
    text += "  - {table: public.plain, keys: ['plain:slug:{slug}'], on_missing: purge}\n"
    text += "  - {table: public.plain, keys: ['plain:body:{body|md5}', 'plain:nums:{nums|md5}'], on_missing: ignore}\n"
    text += "  - {table: public.defaulted, keys: ['defaulted:slug:{slug}', 'defaulted:status:{status}']}\n"
    text += "  - {table: public.keyed, keys: ['keyed:{a}:{b}']}\n"
    return text


# What was in the cache before: purges and tombstones show on it.
BEFORE = ["defaulted:slug:other", "defaulted:status:other", "plain:slug:one", "plain:slug:other", "keyed:7:old", "keyed:9:after", "untouched", "plain:body:x"]


class Deletes:
    """The names of the keys that were deleted, of the tags that were walked and of the patterns, by database: Redis tells each
    command that it runs (MONITOR). Plain rules leave nothing in Redis that would tell."""

    def __init__(self, redis):
        self.names = collections.defaultdict(set)
        self.socket = socket.create_connection(("127.0.0.1", redis.port))
        self.socket.sendall(b"MONITOR\r\n")
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        with self.socket.makefile("r", encoding="utf-8", errors="surrogateescape", newline="\r\n") as lines:
            for line in lines:
                head = re.match(r"\+[0-9.]+ \[([0-9]+) ", line)
                # As they are written, escapes and all: the same name is written the same way.
                words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
                if head is None or not words:
                    continue
                command = words[0].upper()
                names = words[1:] if command == "UNLINK" else words[1:2] if command == "SSCAN" else []
                if command == "SCAN" and "MATCH" in words:
                    names = ["purge:" + words[words.index("MATCH") + 1]]
                self.names[int(head.group(1))].update(name for name in names if not name.startswith("evictd:"))

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.socket.close()


def touched(redis_client, names):
    """The names that evictd touched, and what of BEFORE is gone."""
    return set(names), {key for key in BEFORE if not redis_client.exists(key)}


AVRO = {f"{of}_converter{setting}": value for of in ("key", "value") for setting, value in {
    "": "io.apicurio.registry.utils.converter.AvroConverter",
    "_apicurio_registry_auto-register": "true",
    "_apicurio_registry_use-id": "contentId",
    "_apicurio_registry_id-handler": "io.apicurio.registry.serde.Legacy4ByteIdHandler",
}.items()} | {"schema_name_adjustment_mode": "avro"}

VARIANTS = {
    # Debezium's defaults but for intervals, with the schema in every record.
    "adaptive": {"value_converter_schemas_enable": "true", "key_converter_schemas_enable": "true",
                 "interval_handling_mode": "string"},
    "micros": {"value_converter_schemas_enable": "true", "time_precision_mode": "adaptive_time_microseconds",
               "decimal_handling_mode": "string", "interval_handling_mode": "string"},
    "iso": {"value_converter_schemas_enable": "true", "time_precision_mode": "isostring", "decimal_handling_mode": "string",
            "interval_handling_mode": "string"},
    "bare": {},
    # Apicurio's Avro converter: keys with ids of four bytes, values with the eight of its older versions. Where its schemas are,
    # the fixture knows.
    "avro": {**AVRO, "interval_handling_mode": "string",
             "value_converter_apicurio_registry_id-handler": "io.apicurio.registry.serde.DefaultIdHandler"},
}


@pytest.fixture(scope="module")
def both_ways(parts_folder, kafka, connect):
    """{variant: touched}, and "pgoutput": touched."""
    from harness import servers

    postgres = servers.Postgres(f"{parts_folder}/postgres").start()
    redis = servers.Redis(f"{parts_folder}/redis").start()
    registry = Registry()
    running = []
    try:
        postgres.execute("create database corpus", database="postgres")
        remaining = statements()
        for statement in remaining:
            if statement is None:
                break
            postgres.execute(statement, database="corpus")
        databases = {name: index for index, name in enumerate(["pgoutput", *VARIANTS])}
        deletes = Deletes(redis)
        for index in databases.values():
            for key in BEFORE:
                redis.client(index).set(key, "value")
        direct = daemon.Evictd(f"{parts_folder}/pgoutput", postgres.url("corpus"), redis.url(0), rules(),
                               redis_more="tombstone_ttl: 1h")
        running.append(direct)
        direct.start()
        daemons = []
        for name, more in VARIANTS.items():
            if name == "avro":
                more = {**more, **{f"{of}_converter_apicurio_registry_url": registry.apicurio_url for of in ("key", "value")}}
            connect.add_postgres(postgres, name, "corpus", topic_creation_default_partitions="1", table_include_list="public.every,public.plain,public.keyed,public.defaulted", **more)
        # Topics come with the first event: a row that changes nothing here makes them.
        for name in VARIANTS:
            one = KafkaEvictd(f"{parts_folder}/{name}", kafka, redis.url(databases[name]), rules(), group=name,
                              kafka_more=f"registry: {{url: '{registry.url}'}}" if name == "avro" else "",
                              topics=[f"^{name}[.]public[.]"], redis_more="tombstone_ttl: 1h")
            running.append(one)
            daemons.append(one.start(ready=False))
        for statement in remaining:
            postgres.execute(statement, database="corpus")
        for name in VARIANTS:
            wait_for_debezium(postgres, f"debezium_{name}", database="corpus")
        for one in daemons:
            # The pattern finds the new topics within its refresh.
            eventually("the topics are found", lambda one=one: len(
                one.status().get("source", {}).get("kafka", {}).get("lag_messages", {})) >= 3
                or one.metrics().sum("evictd_changes_total") > 0, 60)
        wait_for_daemons(daemons)
        from harness import oracle

        oracle.wait_until_acknowledged(postgres, direct.slot, database="corpus")

        def same_count():
            counts = {name: len(deletes.names[index]) for name, index in databases.items()}
            return counts["pgoutput"] > 50 and len(set(counts.values())) == 1

        try:
            eventually("every way has touched as much", same_count, 10)
        except AssertionError:
            pass  # the tests below say what differs
        yield {name: touched(redis.client(index), deletes.names[index]) for name, index in databases.items()}
        deletes.close()
        # A key and a value of four tables: asked once each.
        assert len([path for path in registry.asked if "/schemas/ids/" in path]) == 8, registry.asked
    finally:
        for one in running:
            one.kill()
            print(f"--- the end of {one.log}\n{one.log_tail(15)}")
        postgres.stop("immediate")
        redis.stop()
        registry.stop()


def needs_schema(touched_name):
    """Whether it was made of a column of TYPED, or of the array in `plain`."""
    name = touched_name.removeprefix("tag:").removeprefix("purge:")
    return name.split(":")[0] in TYPED or name.startswith("plain:nums:")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_keys_through_debezium(both_ways, variant):
    expected, expected_gone = both_ways["pgoutput"]
    got, got_gone = both_ways[variant]
    if variant == "bare":
        # Without a schema a number is a number and a text a text: nothing says that it counts days or holds JSON.
        expected = {name for name in expected if not needs_schema(name)}
        got = {name for name in got if not needs_schema(name)}
    assert len(expected) > 30, "the corpus proves nothing"
    assert sorted(expected - got) == [], f"only through pgoutput; beyond that only through Debezium: {sorted(got - expected)}"
    assert sorted(got - expected) == [], "only through Debezium"
    assert got_gone == expected_gone
    assert "untouched" not in got_gone
