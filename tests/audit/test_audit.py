"""`evictd audit` on real servers: a healthy system shows nothing stale while it is written to, and whatever is spoiled by
hand, by readers or by a build that is broken on purpose is found."""

import json
import random
import signal
import subprocess
import threading
import time

import pytest
from harness import load, oracle, process
from harness.daemon import sanitizer
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually

CHECKED = "{table: public.products, keys: ['product:{id}'], fill: checked}"
QUERY = 'select id, name || \'@\' || price_cents from products where id = any($1)'
PLAIN = "{table: public.products, keys: ['product:{id}'], settle: 1s, audit: {query: \"%s\"}}" % QUERY
# A plain reader takes less than `settle` from its SELECT to its SET; ours give up in time.
PATIENCE = 0.4
SELECT = "select name || '@' || price_cents, pg_current_snapshot()::text from products where id = %s"


def rules(*lines):
    return "\n".join("- " + line for line in lines) + "\n"


def fill(cache, key, value, token, seconds=600):
    return cache.fcall("evictd_fill", 2, key, "evictd:{" + key + "}", token, seconds * 1000, value)


def read(cursor, product):
    cursor.execute(SELECT, (product,))
    return cursor.fetchone()


def fill_all(postgres, cache, products=range(1, 101), plain=False):
    connection = postgres.connect()
    with connection.cursor() as cursor:
        for product in products:
            row = read(cursor, product)
            if row is None:
                continue
            if plain:
                cache.set(f"product:{product}", row[0], ex=600)
            else:
                assert fill(cache, f"product:{product}", row[0], row[1]) == 1
    connection.close()


class Load(load.Load):
    """Writers and readers."""

    def __init__(self, postgres, redis, seed, plain=False, products=100):
        self.plain, self.products = plain, products
        super().__init__(postgres, redis, seed, [self._write, self._write, self._read, self._read], autocommit=False)

    def _write(self, connection, cursor, _client, choices):
        product = choices.randint(1, self.products)
        what = choices.randrange(7)
        if what == 0:  # a subtransaction that stays, and one that is taken back
            cursor.execute("savepoint a; update products set price_cents = price_cents + 1 where id = %s; release a", (product,))
            cursor.execute("savepoint b; update products set price_cents = 0 where id = %s; rollback to b", (product,))
        elif what == 1:
            cursor.execute("select from products where id = %s for update", (product,))
        elif what == 2:
            cursor.execute("update products set price_cents = -1 where id = %s", (product,))
            connection.rollback()
            return
        elif what == 3:
            cursor.execute("delete from products where id = %s returning *", (product,))
            row = cursor.fetchone()
            if row is not None:
                cursor.execute("insert into products values (%s, %s, %s, %s, %s)", row)
        else:
            cursor.execute("update products set price_cents = %s where id = %s", (choices.randrange(10**6), product))
        connection.commit()
        time.sleep(0.002)

    def _read(self, connection, cursor, client, choices):
        product = choices.randint(1, self.products)
        if client.get(f"product:{product}") is None:
            begin = time.monotonic()
            row = read(cursor, product)
            connection.rollback()
            if row is not None and self.plain:
                if time.monotonic() - begin < PATIENCE:
                    client.set(f"product:{product}", row[0], ex=choices.choice([600, None]))
                if time.monotonic() - begin > PATIENCE:
                    client.delete(f"product:{product}")  # later than a plain reader may be
            elif row is not None:
                fill(client, f"product:{product}", row[0], row[1])
        time.sleep(0.0005)


@pytest.mark.parametrize("kind", ["checked", "plain"])
def test_a_healthy_system_shows_nothing_stale_under_load(postgres, redis, cache, make_evictd, seed, kind):
    postgres.execute("create index on products (price_cents)")
    evictd = make_evictd(rules(CHECKED if kind == "checked" else PLAIN)).start()
    with Load(postgres, redis, seed, plain=kind == "plain"):
        counts, findings, code, said = evictd.audit("--for", "8s")
    assert counts["stale"] == 0, findings
    assert code == 0, said
    assert counts["fresh"] >= 300, counts
    assert counts["unreadable"] <= counts["checked"] * 0.2, (counts, said)


def test_each_of_many_values_is_looked_at_again_and_again_and_none_is_stale(postgres, redis, cache, make_evictd, seed):
    """A million looks in a soak. Tens of thousands of keys are more than the audit meets in one walk, and are written in batches."""
    rows, looks = (120_000, 1_000_000) if soak() else (4_000, 12_000)
    postgres.execute(f"create table items (id int primary key, amount int not null); insert into items select i, 0 from generate_series(1, {rows}) i")
    evictd = make_evictd(rules("{table: public.items, keys: ['item:{id}'], fill: checked}")).start()

    def fill_item(client, item, amount, token):
        client.execute_command("FCALL", "evictd_fill", 2, f"item:{item}", "evictd:{item:%d}" % item, token, 3_600_000, amount)

    token = postgres.value("select pg_current_snapshot()::text")
    with cache.pipeline(transaction=False) as pipeline:
        for item in range(1, rows + 1):
            fill_item(pipeline, item, 0, token)
            if item % 5_000 == 0 or item == rows:
                pipeline.execute()

    def write(_connection, cursor, _client, choices):
        items = sorted(choices.randint(1, rows) for _ in range(choices.choice([1, 1, 1, 5, 50])))
        cursor.execute("update items set amount = amount + 1 where id = any(%s)", (items,))
        time.sleep(0.02)

    def read_items(_connection, cursor, client, choices):
        item = choices.randint(1, rows)
        if client.get(f"item:{item}") is None:
            cursor.execute("select amount, pg_current_snapshot()::text from items where id = %s", (item,))
            fill_item(client, item, *cursor.fetchone())
        time.sleep(0.002)

    with load.Load(postgres, redis, seed, [write, write, read_items, read_items]):
        counts, findings, code, said = evictd.audit("--sample", str(looks), "--for", "1800s", timeout=1900)
    print(counts)
    assert counts["stale"] == 0, findings
    assert code == 0, said
    assert counts["checked"] >= looks, (counts, said)
    assert counts["fresh"] >= looks * 0.99, (counts, said)


@pytest.mark.parametrize("kind", ["checked", "plain"])
def test_faults_are_late_deletes_and_no_staleness(postgres, redis, cache, make_evictd, seed, kind):
    """evictd killed and frozen, commits that hang behind a standby, a Redis that stands still: values are old for a while, and each
    of them is deleted before it may be called stale."""
    evictd = make_evictd(rules(CHECKED if kind == "checked" else PLAIN), redis_more="timeout: 1s").start()
    choice = random.Random(seed)
    found = {}

    def look():
        try:
            found["result"] = evictd.audit("--for", "16s", timeout=150)
        except Exception as error:  # pylint: disable=broad-except
            found["failure"] = error

    def standby(name):
        postgres.execute(f"alter system set synchronous_standby_names = '{name}'")
        postgres.execute("select pg_reload_conf()")

    def kill():
        evictd.kill()
        time.sleep(choice.random())
        evictd.start(ready=False)

    def freeze(send):
        send(signal.SIGSTOP)
        time.sleep(choice.random())
        send(signal.SIGCONT)

    def hang():
        standby("nobody")
        time.sleep(1.5 * choice.random())
        standby("")

    faults = [kill, lambda: freeze(evictd.signal), lambda: freeze(redis.process.send_signal), hang]
    with Load(postgres, redis, seed, plain=kind == "plain"):
        looker = threading.Thread(target=look)
        looker.start()
        while looker.is_alive():
            choice.choice(faults)()
            looker.join(choice.random())
    assert "result" in found, found
    counts, findings, code, said = found["result"]
    assert counts["stale"] == 0, findings
    assert code == 0, said
    assert counts["fresh"] >= 200, counts


def test_what_is_stale_is_found_and_fixed(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache)
    counts, _, code, _ = evictd.audit()
    assert (code, counts["checked"], counts["fresh"]) == (0, 100, 100)
    connection = postgres.connect()
    with connection.cursor() as cursor:
        old, token = read(cursor, 7)
    connection.close()
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    oracle.wait_until_acknowledged(postgres, "evictd")
    # A reader that breaks the rules: past the tombstone, and later than it lives.
    cache.delete("evictd:{product:7}")
    assert fill(cache, "product:7", old, token) == 1
    counts, findings, code, _ = evictd.audit()
    assert (code, counts["checked"], counts["stale"], counts["fresh"]) == (1, 100, 1, 99)
    assert findings[0]["key"] == "product:7" and "has not seen" in findings[0]["reason"]
    assert findings[0]["marker"].startswith("f ") and findings[0]["fixed"] is False
    assert cache.get("product:7") == old.encode()
    counts, findings, code, _ = evictd.audit("--fix")
    assert (code, counts["stale"], findings[0]["fixed"]) == (1, 1, True)
    assert cache.get("product:7") is None
    assert fill(cache, "product:7", old, token) == 0, "the tombstone asks for what the value had not seen"
    fill_all(postgres, cache, [7])
    counts, _, code, _ = evictd.audit()
    assert (code, counts["fresh"]) == (0, 100)


def test_plain_values_are_compared_with_the_query(postgres, cache, make_evictd):
    evictd = make_evictd(rules(PLAIN)).start()
    fill_all(postgres, cache, plain=True)
    assert evictd.audit()[0]["fresh"] == 100
    cache.set("product:7", "spoiled", ex=600)
    cache.set("product:8", "spoiled too")
    counts, findings, code, _ = evictd.audit("--fix")
    assert (code, counts["checked"], counts["stale"]) == (1, 100, 2)
    assert sorted(one["key"] for one in findings) == ["product:7", "product:8"]
    assert cache.mget("product:7", "product:8", "product:9")[:2] == [None, None]
    assert cache.get("product:9") is not None
    text = evictd.command("audit")
    assert text.returncode == 0 and "checked 98: 98 fresh, 0 stale, 0 in flight, 0 unreadable" in text.stdout, text.stdout
    assert "with 95 % confidence" in text.stdout


def test_values_of_a_rule_that_is_refreshed_are_compared_with_what_that_fills(postgres, cache, make_evictd):
    evictd = make_evictd(rules("{table: public.products, keys: ['product:{id}'], fill: checked, refresh: {query: \"%s\", ttl: 10m}}" % QUERY)).start()
    fill_all(postgres, cache)
    assert evictd.audit()[0]["fresh"] == 100
    cache.set("product:7", "spoiled", keepttl=True)  # beside evictd_fill: its marker says that all is well
    counts, findings, code, _ = evictd.audit("--fix")
    assert (code, counts["checked"], counts["stale"], [one["key"] for one in findings]) == (1, 100, 1, ["product:7"])
    assert "the query of 'refresh'" in findings[0]["reason"], findings
    assert evictd.audit()[1] == []


# Keys of a joined table: how many products a category has, by the category's name.
COUNTS = "select c.name, count(p.id)::text from categories c left join products p on p.category_id = c.id where c.name = any($1) group by 1"
JOINED = ("{name: counts, table: products, via: {category: {table: categories, match: {id: category_id}}}, "
          "keys: ['category:{category.name}:count'], settle: 1s, audit: {query: \"%s\"}}" % COUNTS)


def fill_counts(postgres, cache):
    counts = dict(postgres.execute(COUNTS.replace("any($1)", "any(array(select name from categories))")))
    for name, count in counts.items():
        cache.set(f"category:{name}:count", count, ex=600)
    return counts


@pytest.fixture(name="full")
def shop_with_full_identities(postgres):
    postgres.execute("alter table products replica identity full; alter table categories replica identity full")
    return postgres


def test_keys_of_joined_tables_are_compared_with_the_query(full, cache, make_evictd):
    evictd = make_evictd(rules(JOINED)).start()
    names = list(fill_counts(full, cache))
    counts, _, code, said = evictd.audit()
    assert (code, counts["checked"], counts["fresh"]) == (0, len(names), len(names)), said
    assert said == ""  # nor is anything said of the rules that `via:` implies
    key = f"category:{names[0]}:count"
    cache.set(key, "spoiled", ex=600)
    counts, findings, code, _ = evictd.audit("--rule", "counts", "--fix")
    assert (code, counts["stale"], counts["fresh"]) == (1, 1, len(names) - 1)
    assert (findings[0]["key"], findings[0]["rule"], findings[0]["fixed"]) == (key, "counts", True)
    assert cache.get(key) is None
    # What a change leads to is waited for: its lookup, and its second delete.
    fill_counts(full, cache)
    full.execute("delete from products where id % 3 = 0")
    counts, findings, code, _ = evictd.audit()
    assert counts["stale"] == 0, findings
    implied = evictd.command("audit", "--rule", "counts via category")
    assert implied.returncode == 2 and "its keys are those of rule 'counts'" in implied.stderr, implied.stderr


class JoinedLoad(load.Load):
    """Products move from category to category and come and go, categories are renamed; plain readers cache the counts."""

    def __init__(self, postgres, redis, seed):
        super().__init__(postgres, redis, seed, [self._write, self._write, self._read, self._read], autocommit=False)

    @staticmethod
    def _write(connection, cursor, _client, choices):
        product = choices.randint(1, 100)
        what = choices.randrange(5)
        if what == 0:
            cursor.execute("delete from products where id = %s returning *", (product,))
            row = cursor.fetchone()
            if row is not None and choices.random() < 0.5:
                connection.commit()
            if row is not None:
                cursor.execute("insert into products values (%s, %s, %s, %s, %s)", row)
        elif what == 1:
            cursor.execute("update categories set name = %s where id = %s", (f"name {choices.randrange(60)}", choices.randint(1, 40)))
        else:
            cursor.execute("update products set category_id = %s where id = %s", (choices.randint(1, 40), product))
        connection.commit()
        time.sleep(0.002)

    @staticmethod
    def _read(connection, cursor, client, choices):
        begin = time.monotonic()
        cursor.execute("select coalesce(min(name), '-') from categories where id = %s", (choices.randint(1, 40),))
        name = cursor.fetchone()[0]
        key = f"category:{name}:count"
        if client.get(key) is None:
            connection.rollback()
            begin = time.monotonic()
            cursor.execute("select count(p.id)::text from categories c left join products p on p.category_id = c.id where c.name = %s", (name,))
            count = cursor.fetchone()[0]
            connection.rollback()
            if time.monotonic() - begin < PATIENCE:
                client.set(key, count, ex=choices.choice([600, None]))
            if time.monotonic() - begin > PATIENCE:
                client.delete(key)  # later than a plain reader may be
        connection.rollback()
        time.sleep(0.0005)


def test_keys_of_joined_tables_show_nothing_stale_under_load(full, redis, cache, make_evictd, seed):
    full.execute("insert into categories select n, 'name ' || n from generate_series(6, 40) n; create index on products (category_id)")
    evictd = make_evictd(rules(JOINED)).start()
    with JoinedLoad(full, redis, seed):
        counts, findings, code, said = evictd.audit("--for", "8s")
    assert counts["stale"] == 0, findings
    assert code == 0, said
    assert counts["fresh"] >= 40, (counts, said)


def test_a_stopped_evictd_owes_keys_of_joined_tables(full, cache, make_evictd):
    evictd = make_evictd(rules(JOINED)).start()
    names = list(fill_counts(full, cache))
    assert evictd.stop() == 0
    full.execute("delete from products where id % 2 = 0; update categories set name = name || '-new' where id = 1")
    counts, findings, code, said = evictd.audit(timeout=120)
    assert (counts["stale"], code) == (0, 1), findings
    assert counts["in_flight"] >= len(names) - 1 and "evictd does not follow" in said, (counts, said)


def test_keys_of_joined_tables_are_never_fresh_by_a_marker(full, cache, make_evictd):
    """No marker tells of the rows that such a key was made of: they are not audited, and it is said."""
    mixed = ("{name: mixed, table: categories, fill: checked, via: {products: {table: products, match: {category_id: id}}}, "
             "keys: ['category:{id}', 'page:{products.id}']}")
    alone = ("{name: alone, table: products, fill: checked, via: {category: {table: categories, match: {id: category_id}}}, "
             "keys: ['listing:{category.name}']}")
    same = ("{name: same, table: categories, fill: checked, via: {products: {table: products, match: {category_id: id}}}, "
            "keys: ['product:{products.id}']}")
    evictd = make_evictd(rules(mixed, alone)).start()
    token = full.value("select pg_current_snapshot()::text")
    for key in ("category:1", "page:1", "page:2", "listing:c"):
        assert fill(cache, key, "value", token) == 1
    counts, _, code, said = evictd.audit()
    assert (code, counts["checked"], counts["fresh"]) == (0, 1, 1), said
    assert "not audited: rule 'mixed': key 'page:{products.id}': it is of a joined table" in said, said
    assert "not audited: rule 'alone': its keys are of joined tables, whose rows no marker tells of" in said, said
    assert "via" not in said, said
    nothing = evictd.command("audit", "--rule", "alone")
    assert nothing.returncode == 2 and "no rule can be audited" in nothing.stderr
    evictd.stop()
    # The row alone would vouch for it; another rule makes the same key of another table.
    longer = "{table: categories, keys: ['product:{id}:list'], fill: checked}"
    evictd = make_evictd(rules(CHECKED, same, longer)).start()
    fill_all(full, cache, [1, 2])
    counts, _, code, said = evictd.audit()
    assert (counts["fresh"], counts["unreadable"], code) == (0, 2, 1), said
    assert fill(cache, "product:1:list", "value", full.value("select pg_current_snapshot()::text")) == 1
    counts, _, code, said = evictd.audit()
    assert (counts["fresh"], counts["unreadable"], code) == (1, 2, 0), said
    assert "unreadable, 2 times: rule 'public.products': it is as new as its row, but rule 'same' makes this key of a joined table as well" in said


def test_what_a_query_cannot_tell_is_unreadable_and_never_stale(postgres, cache, make_evictd):
    queries = {
        "nothing": "select id, name from products where id = any($1) and false",
        "other_columns": "select id, name, name from products where id = any($1)",
        "too_few": "select id from products where id = any($1)",
        "wrong": "select id, nmae from products where id = any($1)",
        "fails": "select id, (1 / (id - id))::text from products where id = any($1)",
        "twice": "select p.id, p.name from products p, generate_series(1, 2) where p.id = any($1)",
        "two": "select id, name from products where id = any($1); drop table products",
    }
    lines = [f"{{name: {name}, table: public.products, keys: ['{name}:{{id}}'], audit: {{query: \"{query}\"}}}}"
             for name, query in queries.items()]
    lines.append("{name: encoded, table: public.products, keys: ['encoded:{id}'], audit: {query: "
                 "\"select id, row_to_json(p)::text from products p where id = any($1)\", compare: json}}")
    evictd = make_evictd(rules(*lines)).start()
    for name in list(queries) + ["encoded"]:
        cache.set(f"{name}:1", b"\x80\x04K\x07.")
    cache.hset("encoded:2", "a", "b")
    counts, findings, code, said = evictd.audit()
    assert counts == {"checked": 9, "fresh": 0, "stale": 0, "in_flight": 0, "unreadable": 9}, (said, findings)
    assert code == 1 and "nothing could be judged" in said
    for what in ("does not answer for this key", "expected one column", "expected the 1 column of the key", "nmae", "division by zero",
                 "answers 2 times", "multiple commands", "is no JSON", "it is no text"):
        assert what in said, said
    assert postgres.value("select count(*) from products") == 100


def test_deleted_rows_are_told_by_a_query_that_answers_null(postgres, cache, make_evictd):
    query = "select k.id, p.name from unnest($1::bigint[]) k(id) left join products p on p.id = k.id"
    evictd = make_evictd(rules(f"{{table: public.products, keys: ['product:{{id}}'], audit: {{query: \"{query}\"}}}}", )).start()
    cache.set("product:5", postgres.value("select name from products where id = 5"))
    cache.set("product:70000", "never there", ex=600)
    cache.set("product:words", "another key that looks alike")
    counts, findings, code, _ = evictd.audit()
    assert (code, counts["stale"], counts["fresh"], counts["unreadable"]) == (1, 1, 1, 1)
    assert findings[0]["key"] == "product:70000" and "nothing may be cached" in findings[0]["reason"]


def test_checked_values_without_a_row_or_a_marker_are_unreadable(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache, [1, 2])
    token = postgres.value("select pg_current_snapshot()::text")
    fill(cache, "product:999", "(absent)", token)
    cache.set("product:3", "by hand")
    counts, findings, code, said = evictd.audit()
    assert (code, counts["fresh"], counts["unreadable"], counts["stale"]) == (0, 2, 2, 0), findings
    assert "no row has this key" in said and "it has no marker" in said


def test_subtransactions_locks_and_rollbacks_are_no_staleness(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED)).start()
    open_one, writer = postgres.connect(autocommit=False), postgres.connect(autocommit=False)
    with open_one.cursor() as first, writer.cursor() as second:
        # Running while the values are read, with an id below those that follow.
        first.execute("update products set price_cents = 1 where id = 50")
        second.execute("savepoint a; update products set price_cents = 2 where id = 1; release a")
        writer.commit()
        fill_all(postgres, cache, [1, 2, 3, 4])
        second.execute("savepoint a; update products set price_cents = 3 where id = 2; rollback to a")
        writer.commit()
        second.execute("select from products where id = 3 for update")
        writer.commit()
        second.execute("update products set price_cents = 4 where id = 4")
        writer.rollback()
        counts, findings, code, said = evictd.audit()
        # Nobody outside can tell whether product 1 was written by a savepoint of the transaction that is open.
        assert (code, counts["stale"], counts["fresh"]) == (0, 0, 3), (counts, findings)
        assert counts["unreadable"] == 1 and "subtransaction" in said
        first.execute("commit")
    oracle.wait_until_acknowledged(postgres, "evictd")
    fill_all(postgres, cache, [1])
    assert evictd.audit()[0]["fresh"] == 4


def test_a_late_write_of_a_savepoint_is_found(postgres, cache, make_evictd):
    """The row's xmin is that of the savepoint; the value's snapshot ends before both."""
    evictd = make_evictd(rules(CHECKED)).start()
    old, token = postgres.execute(SELECT.replace("%s", "1"))[0]
    connection = postgres.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("select pg_current_xact_id()")
        cursor.execute("savepoint a; update products set price_cents = 77 where id = 1; release a")
    connection.commit()
    oracle.wait_until_acknowledged(postgres, "evictd")
    cache.delete("evictd:{product:1}")
    assert fill(cache, "product:1", old, token) == 1
    counts, _, code, _ = evictd.audit()
    assert (code, counts["stale"]) == (1, 1)


def test_a_stopped_evictd_is_behind_and_nothing_is_called_stale(postgres, cache, make_evictd):
    """Its values are old, but no promise about them is broken: it has not been told yet. So they are in flight, and the exit
    code says that the audit vouches for nothing."""
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache)
    evictd.signal(signal.SIGSTOP)
    try:
        postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
        counts, findings, code, said = evictd.audit(timeout=120)
        assert (counts["stale"], counts["in_flight"], counts["fresh"]) == (0, 10, 90), findings
        assert code == 1 and "evictd does not follow: 10 values" in said and "evictd has acknowledged" in said, said
    finally:
        evictd.signal(signal.SIGCONT)
    oracle.wait_until_acknowledged(postgres, "evictd")
    counts, _, code, _ = evictd.audit()
    assert (code, counts["checked"], counts["fresh"]) == (0, 90, 90)


def test_what_is_about_to_be_deleted_is_waited_for(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache)
    evictd.signal(signal.SIGSTOP)
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
    wakes = threading.Timer(3, lambda: evictd.signal(signal.SIGCONT))
    wakes.start()
    counts, findings, code, said = evictd.audit()
    wakes.join()
    assert (code, counts["stale"], counts["in_flight"], counts["fresh"]) == (0, 0, 10, 90), (findings, said)
    eventually("they are gone", lambda: cache.exists(*[f"product:{n}" for n in range(1, 11)]) == 0)


def test_a_build_that_acknowledges_before_redis_is_seen(postgres, redis, cache, make_evictd):
    """Redis is slower than the stream; killed in between, this build has acknowledged what is still cached."""
    # Long keys: many more bytes than are on their way to Redis at a time, which the record would queue behind.
    pad = "-" * 120
    items = rules("{table: public.items, keys: ['item:{id}%s'], fill: checked}" % pad)
    postgres.execute("create table items (id integer primary key, v integer not null); "
                     "insert into items select i, 0 from generate_series(1, 20000) i")
    proxy = Proxy(redis.port)
    try:
        broken = make_evictd(items, program="evictd_broken_ack", redis_url=redis.url(port=proxy.port)).start()
        looking = make_evictd(items)  # with a way of its own to Redis
        token = postgres.value("select pg_current_snapshot()::text")
        with cache.pipeline(transaction=False) as together:
            for item in range(1, 20001):
                together.fcall("evictd_fill", 2, f"item:{item}{pad}", f"evictd:{{item:{item}{pad}}}", token, 900_000, "0")
            assert set(together.execute()) == {1}
        assert looking.audit("--sample", "1000")[0]["fresh"] == 1000
        proxy.tell("slice 16384")
        proxy.tell("delay 5")
        postgres.execute("update items set v = 1")
        oracle.wait_until_acknowledged(postgres, "evictd", 120)
        broken.kill()
    finally:
        proxy.stop()
    counts, findings, code, said = looking.audit("--sample", "1000")
    assert code == 1 and counts["stale"] > 0, (counts, said)
    assert "has not seen" in findings[0]["reason"]


def test_a_build_that_does_not_settle_is_seen(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules(PLAIN), program="evictd_broken_settle").start()
    old = postgres.value(SELECT.replace("%s", "1"))
    fill_all(postgres, cache, plain=True)
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the first delete", lambda: cache.get("product:1") is None)
    cache.set("product:1", old, ex=600)  # a reader that had read before
    oracle.wait_until_acknowledged(postgres, "evictd")
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert (code, counts["stale"]) == (1, 1), counts
    assert findings[0]["key"] == "product:1"


def test_a_build_that_takes_an_older_position_for_an_older_change_is_seen(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED), program="evictd_broken_dedup").start()
    fill_all(postgres, cache)
    late = postgres.connect(autocommit=False)
    with late.cursor() as cursor:
        cursor.execute("update products set price_cents = 44 where id = 4")
        postgres.execute("update products set price_cents = 55 where id = 5")
        eventually("the one that commits first is deleted", lambda: not cache.exists("product:5"))
        late.commit()
    late.close()
    oracle.wait_until_acknowledged(postgres, "evictd")
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert (code, counts["stale"], counts["fresh"]) == (1, 1, 98), counts
    assert findings[0]["key"] == "product:4"


def test_a_build_that_purges_nothing_after_a_gap_is_seen(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED), program="evictd_broken_repair").start()
    fill_all(postgres, cache)
    assert evictd.stop() == 0
    postgres.execute("select pg_drop_replication_slot('evictd')")
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
    evictd.start()
    eventually("the gap is told, and over", lambda: evictd.metrics().sum("evictd_gaps_total", reason="slot_missing") == 1
               and evictd.http("/readyz")[0] == 200, 30)
    postgres.execute("update products set price_cents = price_cents + 1 where id = 11")
    oracle.wait_until_acknowledged(postgres, "evictd")
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert (code, counts["stale"], counts["fresh"]) == (1, 10, 89), counts
    assert sorted(one["key"] for one in findings) == sorted(f"product:{product}" for product in range(1, 11))


def break_promise(postgres, cache, key, change, value="old"):
    """A value that has not seen `change`, which evictd has acknowledged."""
    token = postgres.value("select pg_current_snapshot()::text")
    postgres.execute(change)
    oracle.wait_until_acknowledged(postgres, "evictd")
    cache.delete("evictd:{" + key + "}")
    assert fill(cache, key, value, token) == 1


def test_a_key_of_two_rules_is_judged_by_the_rows_of_both(postgres, cache, make_evictd):
    postgres.execute("create table texts (product_id integer primary key, body text); insert into texts select i, 'b' from generate_series(1, 20) i")
    texts = "{name: texts, table: public.texts, keys: ['product:{product_id}'], fill: checked%s}"
    evictd = make_evictd(rules(CHECKED, texts % "")).start()
    break_promise(postgres, cache, "product:7", "update texts set body = 'new' where product_id = 7")
    counts, findings, code, _ = evictd.audit()
    assert (code, counts["stale"], counts["fresh"]) == (1, 1, 1), counts
    assert (findings[0]["key"], findings[0]["rule"]) == ("product:7", "texts")
    # Where the other rule's rows tell nothing, the row of this one is no proof.
    evictd.write_rules(rules(CHECKED, texts % ", when_changed: [body]"))
    counts, _, _, said = evictd.audit()
    assert (counts["stale"], counts["fresh"], counts["unreadable"]) == (0, 0, 1), counts
    assert "rule 'texts' makes this key as well, of rows that its marker is not compared with" in said, said


def test_one_row_that_is_not_newer_vouches_for_no_key_of_many_rows(postgres, cache, make_evictd):
    postgres.execute("create table notes (id integer primary key, owner integer, v integer); alter table notes replica identity full; "
                     "insert into notes select i, i % 4, 0 from generate_series(1, 400) i")
    evictd = make_evictd(rules("{name: notes, table: public.notes, keys: ['owner:{owner}:notes'], fill: checked}")).start()
    break_promise(postgres, cache, "owner:1:notes", "update notes set v = 1 where id = 5")  # one of a hundred
    break_promise(postgres, cache, "owner:2:notes", "delete from notes where id = 6")  # which no row tells
    counts, _, _, said = evictd.audit()
    assert counts["fresh"] == 0 and counts["unreadable"] + counts["stale"] == 2, counts
    assert "several rows may make this key, by no unique index, and no marker tells of one that is gone" in said, said


def test_a_stale_value_whose_life_readers_prolong_is_found(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED, PLAIN.replace("{table", "{name: plain, table").replace("product:", "plain:"))).start()
    break_promise(postgres, cache, "product:7", "update products set price_cents = price_cents + 1 where id = 7")
    cache.set("plain:7", "spoiled", ex=600)
    ends = threading.Event()

    def read_on():
        client = redis.client()
        life = 600
        while not ends.is_set():
            life = 1500 - life  # so that no two looks see one and the same end
            client.execute_command("GETEX", "product:7", "EX", life)
            client.execute_command("GETEX", "plain:7", "EX", life)

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        counts, findings, code, _ = evictd.audit()
    finally:
        ends.set()
        reader.join()
    assert (code, counts["stale"]) == (1, 2), counts
    assert sorted(one["key"] for one in findings) == ["plain:7", "product:7"]


def test_no_key_spoils_the_look_at_others(postgres, cache, make_evictd):
    """What a browser may put into a key, and what only looks like a rule's."""
    query = "select slug, name from products where slug = any($1)"
    evictd = make_evictd(rules("{table: public.products, keys: ['slug:{slug}'], fill: checked}",
                               "{name: asked, table: public.products, keys: ['asked:{slug}'], settle: 1s, audit: {query: \"%s\"}}" % query)).start()
    for slug, name, token in postgres.execute("select slug, name, pg_current_snapshot()::text from products where id <= 10"):
        assert fill(cache, f"slug:{slug}", "v", token) == 1
        cache.set(f"asked:{slug}", name)
    for text in (b"a\0b", b"\xff\xfe", b"{x", b"'; drop table products; --", b"\\", b'"', b"NULL", b"x" * 70_000):
        for kind in (b"slug:", b"asked:"):
            cache.set(kind + text, "v")
            cache.set(b"evictd:{" + kind + text + b"}", cache.get("evictd:{slug:product-1}"))
    counts, _, code, said = evictd.audit()
    assert (code, counts["fresh"], counts["stale"]) == (0, 20, 0), (counts, said)


def test_keys_of_bytes_are_judged(postgres, cache, make_evictd):
    postgres.execute("create table files (hash bytea primary key, name text); insert into files values ('\\x00ff', 'a'), ('\\x3030', 'b')")
    asked = "select encode(hash, 'hex'), name from files where encode(hash, 'hex') = any($1)"
    evictd = make_evictd(rules("{table: public.files, keys: ['file:{hash}'], fill: checked}",
                               "{name: asked, table: public.files, keys: ['asked:{hash}'], settle: 1s, audit: {query: \"%s\"}}" % asked)).start()
    token = postgres.value("select pg_current_snapshot()::text")
    for text, name in (("00ff", "a"), ("3030", "b")):
        assert fill(cache, f"file:{text}", name, token) == 1
        cache.set(f"asked:{text}", name)
    counts, _, code, said = evictd.audit()
    assert (code, counts["fresh"], counts["checked"]) == (0, 4, 4), (counts, said)


def test_an_audit_that_is_cut_off_tells_what_it_has_found(postgres, cache, make_evictd):
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache)
    break_promise(postgres, cache, "product:7", "update products set price_cents = price_cents + 1 where id = 7")
    with subprocess.Popen([evictd.program, "audit", "--json", "--for", "60s", "--rate", "1000", "-c", evictd.config],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as audit:
        first = json.loads(audit.stdout.readline())
        assert first["key"] == "product:7"
        postgres.stop("fast")
        out, said = audit.communicate(timeout=60)
    counts = json.loads(out.splitlines()[-1])
    assert audit.returncode == 1 and counts["stale"] >= 1 and counts["checked"] >= 1, (counts, said)
    assert said.strip(), "and why it ended"


def test_a_cache_that_is_away_leaves_the_others_audited(postgres, redis, cache, make_evictd):
    nobody = f"redis://127.0.0.1:{process.free_port()}"
    caches = f"  away:\n    redis: {{url: '{nobody}'}}\n  there:\n    redis: {{url: {redis.url()}}}\n"
    evictd = make_evictd(rules(CHECKED), caches=caches).start(ready=False)
    eventually("the history of this cache begins", lambda: "cache 'there': first start" in evictd.log_text())
    fill_all(postgres, cache)
    counts, _, code, said = evictd.audit()
    assert code == 1 and "cache 'away': " in said and counts["fresh"] == 100, (counts, said)


def test_huge_values_and_answers_are_unreadable_and_not_gathered(postgres, cache, make_evictd):
    wide = "select id, repeat('x', 2000000) from products where id = any($1)"
    evictd = make_evictd(rules(CHECKED, PLAIN.replace("{table", "{name: plain, table").replace("product:", "plain:"),
                               "{name: wide, table: public.products, keys: ['wide:{id}'], settle: 1s, audit: {query: \"%s\"}}" % wide)).start()
    token = postgres.value("select pg_current_snapshot()::text")
    fill_all(postgres, cache, plain=True)
    for product in range(1, 51):
        cache.set(f"wide:{product}", "v")
        cache.rename(f"product:{product}", f"plain:{product}")
        assert fill(cache, f"product:{product}", b"x" * 5_000_000, token) == 1  # its marker tells of it
    for product, size in ((1, 2_000_000), (2, 5_000_000), (3, 17_000_000), (4, 40_000_000)):
        cache.set(f"plain:{product}", b"x" * size)
    limit = [] if sanitizer(evictd.program) else ["prlimit", "--as=500000000"]  # a sanitizer lays its hands on terabytes of addresses
    done = subprocess.run([*limit, evictd.program, "audit", "--json", "--rate", "1000", "-c", evictd.config],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, (done.stdout, done.stderr)
    counts = json.loads(done.stdout.splitlines()[-1])
    assert (counts["stale"], counts["unreadable"], counts["fresh"]) == (0, 54 + 50, 50 + 46), (counts, done.stderr)
    assert "unreadable, 4 times: rule 'plain': it is longer than 1048576 bytes" in done.stderr
    assert "unreadable, 50 times: rule 'wide': looking at 50 keys of rule 'wide': an answer of more than 67108864 bytes" in done.stderr


def test_keys_that_do_not_tell_their_row_are_met_by_their_rows(postgres, cache, make_evictd):
    evictd = make_evictd(rules("{table: public.products, keys: ['slug:{slug|upper}'], fill: checked}")).start()
    for slug in ("PRODUCT-3", "PRODUCT-4"):
        value, token = postgres.execute("select id::text, pg_current_snapshot()::text from products where upper(slug) = %s", (slug,))[0]
        assert fill(cache, f"slug:{slug}", value, token) == 1
    counts, _, code, _ = evictd.audit()
    assert (code, counts["checked"], counts["fresh"]) == (0, 2, 2)


def test_questions_are_paced(postgres, cache, make_evictd):
    """1 question a second: a few seconds cannot look at 100 keys one by one, and need not."""
    evictd = make_evictd(rules(CHECKED)).start()
    fill_all(postgres, cache)
    begin = time.monotonic()
    done = evictd.command("audit", "--json", "--rate", "1")
    assert json.loads(done.stdout.splitlines()[-1])["fresh"] == 100
    # Two looks of 50 keys: one waits for the other.
    assert time.monotonic() - begin >= 0.9


def test_errors_are_for_a_person(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules("{table: public.products, keys: ['product:{id}']}", "{table: public.reviews, purge: ['r:*']}"))
    done = evictd.command("audit")
    assert done.returncode == 2
    assert "no rule can be audited\n  not audited: rule 'public.products': plain values" in done.stderr
    evictd = make_evictd(rules(CHECKED))
    done = evictd.command("audit")
    assert done.returncode == 1 and "evictd has no record in Redis" in done.stderr
    done = evictd.command("audit", "--rule", "public.product")
    assert done.returncode == 2 and "no rule is named 'public.product'\nhint: did you mean 'public.products'?" in done.stderr
    for option, value, said in (("--sample", "0", "expected a number from 1"), ("--for", "5", "expected a duration"), ("--rate", "x", "expected a number")):
        done = evictd.command("audit", option, value)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    postgres.execute("create role looker login replication")
    evictd = make_evictd(rules(CHECKED)).start()
    poor = make_evictd(rules(CHECKED), postgres_url=postgres.url(user="looker"))
    fill_all(postgres, cache, [1])
    done = poor.command("audit")
    assert done.returncode == 1 and "grant SELECT on it to evictd's role" in done.stdout, (done.stdout, done.stderr)
