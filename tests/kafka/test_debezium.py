"""What Debezium does and writes, under write load: restarts, snapshots, and records that are none of its own."""

import json

import pytest

from group import event, written
from harness.waiting import eventually, stays
from kafka_daemon import findings, wait_for_daemons


def test_garbage_and_avro_are_purged_and_kept(make_group, seed):
    """B45."""
    group = make_group()
    letters = f"{group.folder}/dead-letters"
    one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\ndead_letter_file: {letters}")
    group.fill("product:1", "product:2", "config:currency")
    group.client.produce(group.topic("products"), [
        (b'{"id":1}', b"garbage \xff\x00"), (b'{"id":1}', b"\x00\x00\x00\x00\x01avro"), (None, b"{}" * 1000),
        (b'{"id":1}', json.dumps({"op": "?", "after": None, "source": {}}).encode()), (b"\xff", None), (None, b""),
        (b"{" * 5000, b'{"op":"u","after":' + b"[" * 900_000)])
    eventually("what they may have touched is gone", lambda: not group.cache.exists("product:1", "product:2"), 30)
    assert group.cache.exists("config:currency"), "another table's keys stay"
    running = group.load(seed)
    written(running, 50)
    group.converge(running)
    assert one.metrics().sum("evictd_kafka_poison_records_total") == 7
    with open(letters, "rb") as file:
        kept = file.read()
    assert kept.count(b"evictd-dead-letter topic=" + group.topic("products").encode()) == 7
    assert b"\x00\x00\x00\x00\x01avro" in kept


def _letters(path):
    with open(path, "rb") as file:
        return file.read().count(b"evictd-dead-letter ")


def _poisoned(make_group, policy):
    """A group that meets garbage between two changes of one partition. -> (group, daemon, dead letters, offset)"""
    group = make_group()
    letters = f"{group.folder}/dead-letters"
    one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\ndead_letter_file: {letters}\non_poison: {policy}")
    group.converge(at_least=0)
    group.fill("product:1", "product:2", "product:3")
    at = group.client.offsets(group.name, group.topic("products"), 1)[0][2] + 1
    group.client.produce(group.topic("products"), [(b'{"id":1}', event(1)), (b'{"id":1}', b"garbage \xff\x00"),
                                                   (b'{"id":2}', event(2))], partition=0)
    return group, one, letters, at


def test_garbage_stops_evictd_when_asked_to(make_group):
    group, one, letters, at = _poisoned(make_group, "stop")
    said = f"{group.topic('products')}[0] offset {at}: expected a JSON object, got 'garbage ??'"
    for run in (1, 2):
        eventually("evictd has ended", lambda: not one.is_running(), 30)
        assert one.process.returncode == 1
        log = one.log_text()
        assert log.count(said) == run and "on_poison: purge drops what it may have touched and goes on" in log, log
        assert group.client.offsets(group.name, group.topic("products"), 1)[0][0] <= at, "what cannot be read is not committed"
        assert _letters(letters) == run
        if run == 1:  # as a supervisor would
            one.start(ready=False)
    assert group.cache.exists("product:2", "product:3") == 2, "nothing behind the record is read"
    group.daemons.remove(one)
    heir = group.add(kafka_more=f"postgres_url: {group.postgres.url()}")
    eventually("what may have been touched is gone", lambda: not group.cache.exists("product:1", "product:2", "product:3"), 30)
    group.converge(at_least=0)
    assert heir.metrics().sum("evictd_kafka_poison_records_total") == 1
    assert group.gaps() == 0


def test_garbage_is_skipped_when_asked_to(make_group):
    group, one, letters, at = _poisoned(make_group, "skip")
    eventually("what the changes around it name is gone", lambda: not group.cache.exists("product:1", "product:2"), 30)
    group.converge(at_least=1)
    assert group.cache.exists("product:3"), "its own change is lost, and nothing else"
    assert one.metrics().sum("evictd_kafka_poison_records_total") == 1
    assert _letters(letters) == 1
    group.fill("product:1", "product:2")
    group.stop(one)
    assert group.client.offsets(group.name, group.topic("products"), 1)[0][0] == at + 2
    one.start()
    group.daemons.append(one)
    group.client.produce(group.topic("products"), [(b'{"id":1}', event(1))], partition=0)
    eventually("it reads on", lambda: not group.cache.exists("product:1"), 30)
    assert one.metrics().sum("evictd_kafka_poison_records_total") == 0 and _letters(letters) == 1, "it is behind us"
    assert group.cache.exists("product:2", "product:3") == 2


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_debezium_is(make_group, connect, seed, how):
    """B44: it writes again what it does not know to be written."""
    group = make_group()
    group.add()
    running = group.load(seed)
    if how == "restarted":
        connect.remove(group.name)
        written(running, 100)
        connect.add_postgres(group.postgres, group.name, **group.connector)
    else:
        connect.stop(hard=True)
        written(running, 100)
        connect.start()
        connect.add_postgres(group.postgres, group.name, **group.connector)
    written(running, 50)
    group.converge(running)
    assert group.gaps() == 0


def _snapshot(group):
    """Debezium reads every product again, in the middle of the stream: an event `r` for each row."""
    before = sum(high for _, _, high in group.client.offsets(group.name, group.topic("products"), 3))
    group.postgres.execute("insert into debezium_signal values (md5(random()::text), 'execute-snapshot', %s)", (json.dumps(
        {"data-collections": ["public.products"], "type": "incremental"}),))
    eventually("the rows are in Kafka", lambda: sum(
        high for _, _, high in group.client.offsets(group.name, group.topic("products"), 3)) >= before + 90, 60, every=0.2)


def _with_signals(make_group, **more):
    group = make_group(table_include_list=r"public\.(products|categories|reviews|orders|settings|debezium_signal)",
                       signal_data_collection="public.debezium_signal", incremental_snapshot_chunk_size="10")
    group.postgres.execute("create table debezium_signal (id varchar(42) primary key, type varchar(32), data varchar(2048))")
    one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\n" + more.get("kafka_more", ""))
    return group, one


def test_an_incremental_snapshot_is_no_storm(make_group):
    """B44: `r` events say nothing new."""
    group, one = _with_signals(make_group)
    keys = [f"product:{number}" for number in range(1, 101)]
    group.fill(*keys)
    deleted = one.metrics().sum("evictd_invalidations_total", outcome="deleted")
    _snapshot(group)
    group.converge(at_least=100)
    assert group.cache.exists(*keys) == 100
    assert one.metrics().sum("evictd_invalidations_total", outcome="deleted") == deleted


def test_an_incremental_snapshot_deletes_when_asked_to(make_group):
    group, _ = _with_signals(make_group, kafka_more="on_snapshot: invalidate")
    keys = [f"product:{number}" for number in range(1, 101)]
    group.fill(*keys)
    _snapshot(group)
    eventually("every product is gone from the cache", lambda: not group.cache.exists(*keys), 30)


def test_incremental_snapshots_during_writes(make_group, seed):
    """B44: an `r` that comes after a newer change neither brings anything back nor hides anything."""
    group, _ = _with_signals(make_group, kafka_more="on_snapshot: invalidate")
    running = group.load(seed)
    for _ in range(3):
        _snapshot(group)
        written(running, 50)
    group.converge(running)
    assert group.gaps() == 0


def test_truncate_drops_everything_of_the_table(make_group):
    """An event without a key or rows."""
    group = make_group()
    group.add()
    group.fill("product:1:sold", "product:2:sold", "product:1")
    group.postgres.execute("truncate orders")
    eventually("what was made of orders is gone", lambda: not group.cache.exists("product:1:sold", "product:2:sold"), 30)
    stays("the rest is there", lambda: group.cache.exists("product:1"), 1)
    group.converge(at_least=1)


FLATTENED = {
    # As bare as they can be: deletes are keys.
    "tombstone": {},
    # As much as they can say: whole old rows of deletes, types, commit times and transactions.
    "rewrite": {"transforms_flat_add_fields": "op,source.ts_ms,source.txId,source.connector,source.name",
                "value_converter_schemas_enable": "true", "key_converter_schemas_enable": "true"},
}


@pytest.mark.parametrize("deletes", FLATTENED)
def test_flattened_rows(make_group, connect, seed, deletes):
    """ExtractNewRecordState: what a record says is deleted and no more; where it says too little, the patterns are purged."""
    group = make_group(transforms="flat", transforms_flat_type="io.debezium.transforms.ExtractNewRecordState",
                       transforms_flat_delete_tombstone_handling_mode=deletes, **FLATTENED[deletes])
    one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\nconnect_url: {connect.url}")
    says_all = deletes == "rewrite"
    slugs = [f"product:slug:product-{number}" for number in range(1, 101)]
    others = ["product:2", "category:1", "category:2", "product:2:sold", "config:currency"]

    def drops(statement, keys, slug):
        """The statement deletes these keys and leaves the others; of slugs, only `slug` when that is known."""
        group.fill(*keys, *others, *slugs)
        group.postgres.execute(statement)
        eventually(f"done: {statement}", lambda: not group.cache.exists(*keys, slug or slugs[-1]), 30)
        group.wait_for_debezium()
        wait_for_daemons([one], 30, group.client, group.name + ".public.")
        assert group.cache.exists(*others) == len(others), statement
        assert group.cache.exists(*slugs) == (len(slugs) - 1 if slug else 0), statement

    # The old row is not sent: its slug may have been any.
    drops("update products set price_cents = 1 where id = 1", ["product:1"], None)
    drops("delete from products where id = 3", ["product:3"], slugs[2] if says_all else None)
    group.fill("product:4", "product:1004")
    group.postgres.execute("update products set id = 1004 where id = 4")
    eventually("both keys are gone", lambda: not group.cache.exists("product:4", "product:1004"), 30)

    running = group.load(seed)
    for number in range(5, 15):
        group.postgres.execute("update products set id = id + 1000 where id = %s", (number,))
        group.postgres.execute("delete from orders where product_id = %s", (number,))
    written(running, 60)
    group.converge(running)
    assert group.gaps() == 0 and one.metrics().sum("evictd_kafka_poison_records_total") == 0

    found, done = findings(one)
    causes = {cause for identity, _, thing, cause in found if identity == "KF005" and thing == group.topic("products")}
    assert any("a truncate is not either" in cause for cause in causes), done.stdout
    assert says_all != any("have no commit time" in cause for cause in causes), done.stdout
    assert says_all != any("name no transaction" in cause for cause in causes), done.stdout
    assert "a delete invalidates nothing" not in done.stdout


DERIVED = """
  - table: public.categories
    when_changed: [name]
    via: {products: {table: public.products, match: {category_id: id}}}
    keys: ["product:{products.slug}:page"]
"""


def test_keys_of_joined_tables_are_looked_up_in_the_database(make_group):
    """A category's new name, and a product that goes to another one: from its event, under its old name too (G10)."""
    group = make_group()
    group.rules += DERIVED
    one = group.add()
    group.converge(at_least=0)
    pages = [f"product:product-{number}:page" for number in (2, 7, 3)]  # the last is of another category
    for page in pages:
        group.cache.set(page, "page")
    group.postgres.execute("update categories set name = 'Tools' where id = 3")
    eventually("the pages of the category are gone", lambda: not group.cache.exists(*pages[:2]), 30)
    assert group.cache.delete(pages[2]) == 1
    group.converge(at_least=0)  # settled
    for page in (*pages, "product:new-2:page"):
        group.cache.set(page, "page")
    group.postgres.execute("update products set slug = 'new-2' where id = 2")
    eventually("both names are gone", lambda: not group.cache.exists(pages[0], "product:new-2:page"), 30)
    assert group.cache.exists(*pages[1:]) == 2
    # While the database says nothing the pattern goes, and readiness tells.
    group.postgres.execute("alter table products rename column category_id to category")
    group.postgres.execute("update categories set name = 'Other tools' where id = 3")
    eventually("the pattern is gone", lambda: not group.cache.exists(*pages), 30)
    eventually("readiness tells", lambda: "joined tables cannot be looked up" in one.http("/readyz")[1], 10)
    group.postgres.execute("alter table products rename column category to category_id")
    group.postgres.execute("update categories set name = 'Tools again' where id = 3")
    one.wait_until_ready(30)
