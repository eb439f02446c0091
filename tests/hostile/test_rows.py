"""Whoever can write rows is the attacker: whatever a value holds, it deletes the keys of its own row or none, and stops
nothing."""

import random

import pytest
from harness import oracle
from harness.waiting import eventually
from hostile import attacks

KEY_BYTES_MAX = 65_536
RULES = """
- {table: public.row_texts, keys: ['row:{name}', 'folded:{name|lower}', 'hashed:{name|sha256}', 'url:{name|urlencode}'], tags: ['{name}'], on_missing: stop}
- {table: public.row_types, keys: ['d:{d}', 'at:{at}', 'n:{n}', 'f:{f}', 'doc:{doc.id}', 'doc:{doc.list.0.name}', 'b:{b}', 'i:{i}'], on_missing: stop}
- {table: public.row_names, keys: ['record:{name}', 'e{name}'], on_missing: stop}
"""
TABLES = """
create table row_texts (id int primary key, name text);
create table row_types (id int primary key, d date, at timestamptz, n numeric, f float8, doc jsonb, b bytea, i interval);
create table row_names (id int primary key, name text);
alter table row_texts replica identity full;
alter table row_types replica identity full;
alter table row_names replica identity full;
"""
# Keys that a value could reach if it became a pattern, a command, a path or another key.
BYSTANDERS = ["row:bystander", "row:", "row:a", "row:*", "row:b*", "folded:x", "url:%2a", "tag:bystander", "session:1", "session:admin", "d:2020-01-01",
              "n:7", "doc:7", "record:x", "plain", "evictdx", "{evictd}"]
DATES = ["infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31", "2024-02-29", "0001-01-01"]
TIMES = ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2024-02-29 12:00:00.5+14"]
NUMBERS = ["NaN", "Infinity", "-0", "1e-16000", "9" * 20_000, "0." + "3" * 10_000, "1e300"]
FLOATS = ["NaN", "Infinity", "-Infinity", "-0", "1e308", "5e-324"]
INTERVALS = ["178000000 years", "-1 year 2 days -00:00:00.000001", "0"]


@pytest.fixture
def evictd(make_evictd, postgres):
    postgres.execute(TABLES)
    return make_evictd(rules=RULES).start()


def plant(cache, keys):
    cache.mset({key: "bystander" for key in keys})


def document(choice):
    value = choice.choice(['"%s"', "%s", "[%s]", '{"id": %s}', '{"list": [{"name": %s}]}', '{"list": {"0": {"name": %s}}}'])
    inner = choice.choice(["null", "1", "1e400", '"x"', "[" * 500 + "]" * 500, '"' + "\\u202e" * 50 + '"', "{}", "true",
                           '"' + "long" * 20_000 + '"'])
    return value % inner if value != '"%s"' else '"text"'


def attack(choice, cursor, number):
    """One row made, changed or removed; the texts that were or are its name."""
    name = attacks.text(choice)
    before = attacks.text(choice)
    table = choice.choice(["row_texts", "row_texts", "row_names"])
    cursor.execute(f"insert into {table} values (%s, %s)", (number, before))
    if choice.random() < 0.5:
        cursor.execute(f"update {table} set name = %s where id = %s", (name, number))
        names = [before, name]
    else:
        cursor.execute(f"delete from {table} where id = %s", (number,))
        names = [before]
    cursor.execute("insert into row_types values (%s, %s, %s, %s, %s, %s, %s, %s)",
                   (number, choice.choice(DATES), choice.choice(TIMES), choice.choice(NUMBERS), choice.choice(FLOATS),
                    document(choice), attacks.data(choice), choice.choice(INTERVALS)))
    cursor.execute("delete from row_types where id = %s", (number,))
    return table, names


def keys_of(table, names):
    """Those that are plainly spelled by these names."""
    made = [key for name in names for key in ([f"row:{name}"] if table == "row_texts" else [f"record:{name}", f"e{name}"])]
    return [key for key in made if len(key.encode()) <= KEY_BYTES_MAX and not key.startswith(("evictd:", "tag:"))]


def test_a_value_deletes_the_keys_of_its_own_row_or_none(postgres, cache, evictd, seed):
    connection = postgres.connect()
    rounds, made = attacks.count(300), 0
    record = f"evictd:record:{evictd.slot}"
    eventually("there is a record", lambda: cache.exists(record))
    with connection.cursor() as cursor:
        while made < rounds:
            numbers = range(made + 1, min(made + 50, rounds) + 1)
            made = numbers[-1]
            # What the values are is known before they are written, so that what they spell can be in the cache.
            own = {key for number in numbers for key in keys_of(*attack(random.Random(f"{seed}/{number}"), Recorder(), number))}
            bystanders = [key for key in BYSTANDERS if key not in own]
            plant(cache, [*own, *bystanders])
            for number in numbers:
                attack(random.Random(f"{seed}/{number}"), cursor, number)
            oracle.wait_until_acknowledged(postgres, evictd.slot)
            left = [key for key in own if cache.exists(key)]
            assert not left, f"stale: {[key[:80] for key in left[:5]]}"
            touched = [key for key in bystanders if not cache.exists(key)]
            assert not touched, f"touched: {touched}"
            assert cache.exists(record)
            assert evictd.is_running()
    metrics = evictd.metrics()
    assert metrics.sum("evictd_invalidations_total", kind="purge") == 0
    assert metrics.sum("evictd_gaps_total") == 0
    assert evictd.is_ready(), evictd.http("/readyz")
    assert all(ord(letter) >= 32 or letter == "\n" for letter in evictd.log_text())
    print(f"{made} attacks")


class Recorder:
    """A cursor that does nothing."""

    def execute(self, *_):
        pass


@pytest.mark.parametrize("named", [False, True])
def test_a_huge_value_costs_no_memory(postgres, cache, make_evictd, named):
    """G8: of a row that is too large what is too long is left out; keys of its other columns are exact, and a key that
    would have been made of what was left out falls back to its pattern."""
    postgres.execute("create table wide (id int primary key, big text, v int); alter table wide alter big set storage external")
    keys = "['wide:{id}', 'big:{big|sha256}']" if named else "['wide:{id}']"
    evictd = make_evictd(rules=f"- {{table: public.wide, keys: {keys}}}\n").start()
    postgres.execute("insert into wide values (1, 'x', 0), (2, 'y', 0)")
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    cache.mset({"wide:1": "old", "wide:2": "old", "big:anything": "old"})
    idle = evictd.memory_bytes()
    postgres.execute("update wide set big = repeat('x', 150000000) where id = 1")
    oracle.wait_until_acknowledged(postgres, evictd.slot, 120)
    assert evictd.memory_bytes("VmHWM") - idle < 64 << 20
    assert not cache.exists("wide:1")
    assert cache.exists("wide:2")
    assert cache.exists("big:anything") != named
    assert evictd.is_ready()
