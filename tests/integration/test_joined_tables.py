"""Keys of joined tables (`via:`): whatever becomes of the rows on the way, no key that a reader can have rendered stays (G10).

    items    ──► orders                        user:{order.user_id}:items
    categories ──► products (many)             product:{products.slug}:page
    prices   ──► variants ──► products         product:{product.slug}:prices
"""

import json
import random
import re
import signal
import subprocess
import threading
import time

import psycopg2
import pytest
from harness import oracle
from harness.fixtures import soak
from harness.waiting import eventually

RULES = """
defaults: {settle: 200ms}
rules:
- table: items
  via: {order: {table: orders, match: {id: order_id}}}
  keys: ["user:{order.user_id}:items"]
- table: categories
  when_changed: [name]
  via: {products: {table: products, match: {category_id: id}}}
  keys: ["product:{products.slug}:page"]
- table: prices
  via:
    variant: {table: variants, match: {id: variant_id}}
    product: {table: products, match: {id: variant.product_id}}
  keys: ["product:{product.slug}:prices"]
"""

TABLES = """
create table orders (id integer primary key, user_id integer not null);
create table items (id bigint primary key, order_id integer not null, quantity integer not null);
create table categories (id integer primary key, name text not null);
create table products (id integer primary key, slug text not null unique, category_id integer);
create table variants (id integer primary key, product_id bigint not null);
create table prices (id integer primary key, variant_id integer not null, cents integer not null);
create index on items (order_id); create index on products (category_id);
create index on variants (product_id); create index on prices (variant_id);
insert into orders select n, n % 10 from generate_series(0, 39) n;
insert into items select n, n % 40, n from generate_series(0, 79) n;
insert into categories select n, 'category ' || n from generate_series(0, 4) n;
insert into products select n, 'product-' || n, n % 5 from generate_series(0, 19) n;
insert into variants select n, n % 20 from generate_series(0, 39) n;
insert into prices select n, n % 40, n from generate_series(0, 79) n;
"""
NAMES = ("orders", "items", "categories", "products", "variants", "prices")

# What a reader caches under a key, in one statement.
VALUES = {
    "items": ("select coalesce(json_agg(json_build_array(i.id, i.quantity) order by i.id), '[]')::text from items i join orders o on "
              "o.id = i.order_id where o.user_id = %s"),
    "page": "select coalesce(max(c.name), '-') from products p left join categories c on c.id = p.category_id where p.slug = %s",
    "prices": ("select coalesce(json_agg(json_build_array(r.id, r.cents) order by r.id), '[]')::text from prices r join variants v on "
               "v.id = r.variant_id join products p on p.id = v.product_id where p.slug = %s"),
}
SLUGS = [f"product-{n}" for n in range(600)]
# Many, so that a row moves on more slowly than the second deletes follow, which would mend what was forgotten.
USERS, ORDERS, ITEMS, PRODUCTS, VARIANTS, PRICES = 400, 400, 1200, 200, 400, 1200
KEYS = [f"user:{n}:items" for n in range(USERS)] + [f"product:{slug}:{kind}" for slug in SLUGS for kind in ("page", "prices")]


def value_of(cursor, key):
    _, name, kind = key.split(":")
    cursor.execute(VALUES[kind], (name,))
    return cursor.fetchone()[0]


def audited(rules):
    """The rules, each with the query that says what a reader would cache."""
    for kind, column in {"items": "int", "page": "text", "prices": "text"}.items():
        query = f"select key, ({VALUES[kind] % 'key'}) from unnest($1::{column}[]) key"
        rules = rules.replace(f':{kind}"]\n', f':{kind}"]\n  audit: {{query: "{query}"}}\n')
    return rules


def fill(cache, cursor, key):
    cache.set(key, value_of(cursor, key))


def stale_keys(postgres, cache):
    """What is cached and is not what the database says; and how many keys were looked at."""
    cursor = postgres.connect().cursor()
    cached = [key for key in KEYS if cache.exists(key)]
    wrong = []
    for key in cached:
        said, true = cache.get(key).decode(), value_of(cursor, key)
        if said != true:
            wrong.append(f"{key}: cached {said}, the rows say {true}")
    return wrong, len(cached)


def assert_true(postgres, cache, at_least=1):
    wrong, checked = stale_keys(postgres, cache)
    assert not wrong, "the cache does not tell the truth:\n  " + "\n  ".join(wrong)
    assert checked >= at_least, f"only {checked} keys were there to check"


@pytest.fixture
def tables(postgres):
    postgres.execute("drop schema public cascade; create schema public;" + TABLES)
    for name in NAMES:
        postgres.execute(f"alter table {name} replica identity full")
    return postgres


def gone(cache, *keys, seconds=15):
    eventually(f"{keys} are gone", lambda: not any(cache.exists(key) for key in keys), seconds)


def test_what_a_row_leads_to_goes(tables, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    cursor = tables.connect().cursor()
    near = [f"user:{n}:items" for n in range(12)] + [f"product:{slug}:{kind}" for slug in SLUGS[:26] for kind in ("page", "prices")]

    def touched(statement, *keys):
        """Of all keys exactly these go."""
        for key in near:
            fill(cache, cursor, key)
        tables.execute(statement)
        gone(cache, *keys)
        oracle.converge(tables, evictd)
        assert sorted(key for key in near if not cache.exists(key)) == sorted(keys), statement
        assert_true(tables, cache)

    touched("update prices set cents = 7 where variant_id = 3", "product:product-3:prices")
    touched("insert into items values (1000, 17, 1)", "user:7:items")
    touched("update items set order_id = 18 where id = 1000", "user:7:items", "user:8:items")
    touched("delete from items where id = 1000", "user:8:items")
    touched("update categories set name = 'tea' where id = 2",
            *[f"product:product-{n}:page" for n in (2, 7, 12, 17)])
    # The joined tables' own changes.
    touched("update orders set user_id = 11 where id = 17", "user:7:items", "user:11:items")
    touched("update variants set product_id = 4 where id = 3", "product:product-3:prices", "product:product-4:prices")
    touched("update products set slug = 'product-25' where id = 5", "product:product-5:page", "product:product-25:page",
            "product:product-5:prices", "product:product-25:prices")
    touched("delete from orders where id = 8", "user:8:items")
    # A parent and its child, gone together and moved together.
    touched("begin; delete from prices where variant_id = 9; delete from variants where id = 9; commit", "product:product-9:prices")
    touched("begin; update variants set product_id = 1 where id = 10; update prices set cents = 0 where variant_id = 10; commit",
            "product:product-10:prices", "product:product-1:prices")
    # What nobody joins by.
    touched("insert into categories values (50, 'empty')")
    assert evictd.metrics().sum("evictd_lookup_rows_total") > 0
    assert evictd.metrics().sum("evictd_invalidations_total", kind="purge") == 0
    assert evictd.stop() == 0


def test_explain_shows_the_rows_that_a_live_row_leads_to(tables, make_evictd):
    evictd = make_evictd(rules=RULES)

    def explained(table, where, *more):
        """What is said of each row: kinds and texts, without the rules."""
        done = evictd.command("explain", "--from-table", table, "--where", where, *more)
        assert done.returncode == 0, done.stderr
        lines = [line.strip().split("  rule '")[0] for line in done.stdout.splitlines() if line.startswith("  ")]
        return [" ".join(line.split()) for line in lines if not line.startswith("lookup")], done.stdout

    tables.execute("insert into items values (900, 900, 1); insert into orders values (50, 50)")
    lines, text = explained("items", "id = 3")
    assert lines == ["joined public.orders user_id=3", "key user:3:items"]
    assert "lookup public.orders where id = '3': user:{order.user_id}:items" in text and text.endswith("1 invalidation\n")
    # Over two tables, and from the one between.
    for table in ("prices", "variants"):
        assert explained(table, "id = 3")[0] == ["joined public.products slug=product-3", "key product:product-3:prices"]
    # One to many.
    lines, text = explained("categories", "id = 3")
    assert [line for line in lines if line.startswith("key")] == [f"key product:product-{n}:page" for n in (3, 8, 13, 18)]
    # A row of a joined table: its own keys, by each rule that it is joined in.
    assert explained("products", "id = 3")[0] == ["key product:product-3:page", "key product:product-3:prices"]
    # A changed one: from where it led, and to where it leads.
    lines, _ = explained("variants", "id = 3", "--op", "update", "--new", '{"product_id": 9}')
    assert [line for line in lines if line.startswith("key")] == ["key product:product-9:prices", "key product:product-3:prices"]
    assert explained("items", "id = 900")[0] == ["note no row of public.orders is there now: no key"]


def test_explain_says_what_a_lookup_lacks(tables, make_evictd):
    tables.execute("create role looker login replication; grant select on items to looker")
    evictd = make_evictd(rules=RULES, postgres_url=tables.url(user="looker"))
    done = evictd.command("explain", "--from-table", "items", "--where", "id = 3")
    assert done.returncode == 2 and "hint: GRANT USAGE ON SCHEMA public TO looker; " in done.stderr, done.stderr
    tables.execute("grant usage on schema public to looker")
    done = evictd.command("explain", "--from-table", "items", "--where", "id = 3")
    assert done.returncode == 0, done.stderr
    assert "the lookup fails: " in done.stdout and "permission denied" in done.stdout and "purge  user:*:items" in done.stdout, done.stdout
    # A database that is full of rows: fan_out is the rule's.
    few = make_evictd(rules=RULES.replace('when_changed: [name]', 'fan_out: 2'))
    done = few.command("explain", "--from-table", "categories", "--where", "id = 3")
    assert "it leads to more than 2 rows (fan_out); on_overflow: purge" in done.stdout and "purge  product:*:page" in done.stdout, done.stdout


def test_a_purge_of_rows_deletes_what_they_lead_to(tables, cache, make_evictd):
    evictd = make_evictd(rules=RULES)
    cursor = tables.connect().cursor()
    near = [f"user:{n}:items" for n in range(10)] + [f"product:product-{n}:{kind}" for n in range(20) for kind in ("page", "prices")]

    def purged(table, where, *keys):
        """Of all keys exactly these go."""
        for key in near:
            fill(cache, cursor, key)
        done = evictd.command("purge", "--table", table, "--where", where)
        assert done.returncode == 0, done.stderr
        assert sorted(key for key in near if not cache.exists(key)) == sorted(keys), done.stdout
        return done

    assert "rule 'public.items' keys  deleted 1, already gone 0" in purged("items", "id = 3", "user:3:items").stdout
    purged("categories", "id in (2, 3)", *[f"product:product-{n}:page" for n in range(20) if n % 5 in (2, 3)])
    purged("variants", "id = 3", "product:product-3:prices")
    purged("products", "id = 3", "product:product-3:page", "product:product-3:prices")
    # Beyond fan_out, and without the right to look, it is the pattern.
    evictd = make_evictd(rules=RULES.replace("when_changed: [name]", "fan_out: 2"))
    done = purged("categories", "id = 2", *[f"product:product-{n}:page" for n in range(20)])
    assert "rule 'public.categories': a row leads to more than 2 joined rows, so its patterns are purged" in done.stderr, done.stderr
    tables.execute("create role looker login replication; grant usage on schema public to looker; grant select on items to looker")
    evictd = make_evictd(rules=RULES, postgres_url=tables.url(user="looker"))
    done = purged("items", "id = 3", *[f"user:{n}:items" for n in range(10)])
    assert "rule 'public.items': its joined rows cannot be looked up, so its patterns are purged: permission denied" in done.stderr, done.stderr


def test_watch_of_a_rule_shows_what_its_joined_tables_delete(tables, make_evictd, folder):
    evictd = make_evictd(rules=RULES).start()  # makes the publication
    assert evictd.stop() == 0
    out, said = f"{folder}/watch.out", f"{folder}/watch.err"
    with open(out, "w", encoding="utf-8") as file, open(said, "w", encoding="utf-8") as errors:
        watching = subprocess.Popen([evictd.program, "watch", "-c", evictd.config, "--rule", "public.items", "--json"], stdout=file, stderr=errors)

    def text(name):
        with open(name, encoding="utf-8") as file:
            return file.read()

    try:
        eventually("watch streams", lambda: "watching 6 tables" in text(said))
        tables.execute("update orders set user_id = 77 where id = 3; update categories set name = 'x' where id = 3; update items set quantity = 5 where id = 3")
        eventually("watch prints", lambda: text(out).count("\n") >= 2)
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    changes = [json.loads(line) for line in text(out).splitlines()]
    assert [(change["op"], change["table"], [(one["kind"], one["text"]) for one in change["actions"]]) for change in changes] == [
        ("update", "public.orders", [("key", "user:77:items"), ("key", "user:3:items")]),
        ("update", "public.items", [("lookup", "public.orders where id = '3': user:{order.user_id}:items")])]
    assert changes[1]["actions"][0]["rule"] == "public.items"
    assert re.fullmatch(r".*/rules\.yaml:\d+:\d+", changes[1]["actions"][0]["place"]), changes[1]


def looked_up_while_commits_hang(tables, cache, evictd):
    """Two commits that nobody sees yet: an order goes to another user, an item comes to the order. Then the first one becomes
    visible, and a reader renders the new user's key without the item."""
    evictd.start()
    cursor = tables.connect().cursor()
    tables.execute("alter system set synchronous_standby_names = 'nobody'")
    tables.execute("select pg_reload_conf()")
    eventually("commits wait for a standby", lambda: tables.value("show synchronous_standby_names") == "nobody")
    writers = [tables.connect(), tables.connect()]
    pids = [writer.info.backend_pid for writer in writers]
    threads = []
    try:
        for writer, statement in zip(writers, ("update orders set user_id = 11 where id = 17", "insert into items values (1000, 17, 1)")):
            thread = threading.Thread(target=writer.cursor().execute, args=(statement,), daemon=True)
            thread.start()
            threads.append(thread)
            eventually("the commit is written", lambda: tables.value(
                "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == len(threads))
        # Both were received; what would be looked up now sees neither.
        cache.set("user:7:items", "old")
        gone_or_not = time.monotonic() + 2
        while cache.exists("user:7:items") and time.monotonic() < gone_or_not:
            time.sleep(0.02)
        tables.execute("select pg_cancel_backend(%s)", (pids[0],))
        threads[0].join(30)
        eventually("the first is visible", lambda: tables.value("select user_id from orders where id = 17") == 11)
        # Past the settle of the first, which deletes what was put there before it.
        cache.set("user:11:items", "probe")
        gone(cache, "user:11:items")
        fill(cache, cursor, "user:11:items")
        assert tables.value("select count(*) from items where id = 1000") == 0, "the second is not visible yet"
    finally:
        tables.execute("alter system reset synchronous_standby_names")
        tables.execute("select pg_reload_conf()")
    for thread in threads:
        thread.join(30)
    oracle.converge(tables, evictd)
    assert_true(tables, cache, at_least=0)


def test_a_lookup_waits_until_its_change_is_visible(tables, cache, make_evictd):
    looked_up_while_commits_hang(tables, cache, make_evictd(rules=RULES))


def test_a_lookup_before_that_is_caught(tables, cache, make_evictd):
    evictd = make_evictd(rules=audited(RULES), program="evictd_broken_lookup")
    with pytest.raises(AssertionError, match="the cache does not tell the truth"):
        looked_up_while_commits_hang(tables, cache, evictd)
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert (code, counts["stale"], [one["key"] for one in findings]) == (1, 1, ["user:11:items"]), counts


def test_rows_that_a_policy_hides_are_no_rows_that_are_not_there(tables, cache, make_evictd):
    """Row level security that somebody switches on later: nothing tells a row that it hides from one that is not there."""
    tables.execute("create role looker login replication; grant usage on schema public to looker; grant select on all tables in schema public to looker;"
                   "create publication evictd for table " + ", ".join(NAMES))
    evictd = make_evictd(rules=RULES, postgres_url=tables.url(user="looker")).start()
    cursor = tables.connect().cursor()

    def changed(key):
        fill(cache, cursor, key)
        tables.execute("update items set quantity = quantity + 1 where id = 3")
        gone(cache, key)
        oracle.wait_until_acknowledged(tables, evictd.slot)

    changed("user:3:items")
    assert evictd.is_ready()
    tables.execute("alter table orders enable row level security; create policy others on orders for select using (user_id <> 3)")
    changed("user:3:items")
    code, text = evictd.http("/readyz")
    assert code == 503 and 'joined tables cannot be looked up' in text and 'row-level security policy for table "orders"' in text, text
    done = evictd.command("check")
    assert done.returncode == 2 and "PG054" in done.stdout and "PG052" not in done.stdout, done.stdout
    assert "make it a member of the role that owns public.orders" in done.stdout, done.stdout
    # Both ways that it names.
    tables.execute("create role keeper; grant keeper to looker; alter table orders owner to keeper")
    changed("user:3:items")
    eventually("lookups work again", evictd.is_ready)
    assert "PG054" not in evictd.command("check").stdout
    tables.execute("alter table orders force row level security")
    changed("user:3:items")
    assert not evictd.is_ready()
    tables.execute("alter role looker bypassrls")
    changed("user:3:items")
    eventually("lookups work again", evictd.is_ready)
    assert "PG054" not in evictd.command("check").stdout


def test_what_the_readers_join_takes_for_equal_is_found(postgres, cache, make_evictd):
    """citext in a schema that evictd's role does not search, as hosted servers have it, also between two joined tables and below a
    domain; and a collation that the joined column does not have."""
    try:
        postgres.execute("create collation of_icu (provider = icu, locale = 'und')")
    except psycopg2.errors.FeatureNotSupported as error:
        pytest.skip(str(error))
    postgres.execute("""
        drop schema public cascade; create schema public; create schema extensions; create extension citext schema extensions; create domain mail as extensions.citext;
        create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table people (mail extensions.citext primary key, id int); create table orders (id int primary key, mail extensions.citext);
        create table items (id int primary key, mail mail, order_id int, name text collate loose, quantity int);
        create table names (name text primary key, id int);
        insert into people values ('Ann@Example.com', 1); insert into orders values (1, 'ann@EXAMPLE.com');
        insert into items values (1, 'ANN@example.com', 1, 'ann', 0); insert into names values ('Ann', 1)""")
    for name in ("people", "orders", "items", "names"):
        postgres.execute(f"alter table {name} replica identity full")
    evictd = make_evictd(rules="""
- table: items
  via:
    person: {table: people, match: {mail: mail}}
    order: {table: orders, match: {id: order_id}}
    orderer: {table: people, match: {mail: order.mail}}
    named: {table: names, match: {name: name}}
  keys: ["person:{person.id}", "orderer:{orderer.id}", "named:{named.id}"]
""").start()
    assert postgres.value("set search_path to public, extensions; select count(*) from items i join people p using (mail) join orders o on o.id = i.order_id "
                          "join people q on q.mail = o.mail join names n on n.name = i.name") == 1, "the readers' join finds them"
    keys = ("person:1", "orderer:1", "named:1")
    for key in keys:
        cache.set(key, "old")
    postgres.execute("update items set quantity = 1")
    gone(cache, *keys)
    oracle.converge(postgres, evictd)
    assert evictd.metrics().sum("evictd_invalidations_total", kind="purge") == 0, "by key"


def test_elements_of_a_joined_domain_are_written_as_those_of_its_type(postgres, cache, make_evictd):
    """PostgreSQL tells a session what a domain is made from, but not what an array of a domain is."""
    postgres.execute("""
        create domain flag as boolean; create domain flags as flag; create domain moment as timestamptz; create type state as enum ('live');
        create table shops (id int primary key, opens flags[], seen moment[], states state[]); create table stock (id int primary key, shop_id int, quantity int);
        insert into shops values (1, '{t,f}', '{2024-02-03 04:05:06+00}', '{live}'); insert into stock values (1, 1, 0);
        alter table shops replica identity full; alter table stock replica identity full""")
    evictd = make_evictd(rules="""
- table: stock
  via: {shop: {table: shops, match: {id: shop_id}}}
  keys: ["opens:{shop.opens.*}", "seen:{shop.seen.*}", "states:{shop.states.*}"]
""").start()
    keys = ("opens:true", "opens:false", "seen:2024-02-03T04:05:06Z", "states:live")
    for key in keys:
        cache.set(key, "old")
    postgres.execute("update stock set quantity = 1")
    gone(cache, *keys)
    oracle.converge(postgres, evictd)


class Load:
    """Writers that move rows about, and readers that fill every key there is."""

    def __init__(self, postgres, redis, seed):
        self.stopped = threading.Event()
        self.readers_stopped = threading.Event()
        self.changes = 0
        self.failures = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(self._write, postgres.connect(autocommit=False), f"{seed}/{n}"), daemon=True)
                        for n in range(3)]
        self.readers = [threading.Thread(target=self._run, args=(self._read, postgres.connect(), redis.client(), f"{seed}/r{n}"), daemon=True)
                        for n in range(2)]
        for thread in self.threads + self.readers:
            thread.start()

    def _run(self, work, *arguments):
        try:
            work(*arguments)
        except Exception as error:  # shown by the test
            self.failures.append(repr(error))

    def _statement(self, rng):
        order, item, product, variant, price = (rng.randrange(n) for n in (ORDERS, ITEMS, PRODUCTS, VARIANTS, PRICES))
        slug = rng.choice(SLUGS)
        return rng.choice([
            ("update orders set user_id = %s where id = %s", (rng.randrange(USERS), order)),
            ("delete from orders where id = %s", (order,)),
            ("insert into orders values (%s, %s) on conflict (id) do update set user_id = excluded.user_id", (order, rng.randrange(USERS))),
            ("insert into items values (%s, %s, 1) on conflict (id) do update set order_id = excluded.order_id", (item, order)),
            ("update items set quantity = quantity + 1 where id = %s", (item,)),
            ("delete from items where id = %s", (item,)),
            ("update categories set name = %s where id = %s", (f"name {rng.random()}", rng.randrange(5))),
            ("update products set category_id = %s where id = %s", (rng.randrange(6), product)),
            ("update products set slug = %s where id = %s and not exists (select from products where slug = %s)", (slug, product, slug)),
            ("delete from products where id = %s", (product,)),
            ("insert into products values (%s, %s, %s) on conflict do nothing", (product, slug, rng.randrange(5))),
            ("update variants set product_id = %s where id = %s", (product, variant)),
            ("insert into variants values (%s, %s) on conflict (id) do update set product_id = excluded.product_id", (variant, product)),
            ("delete from variants where id = %s", (variant,)),
            ("insert into prices values (%s, %s, 1) on conflict (id) do update set variant_id = excluded.variant_id", (price, variant)),
            ("update prices set cents = cents + 1 where id = %s", (price,)),
            ("delete from prices where id = %s", (price,)),
        ])

    def _write(self, connection, seed):
        rng = random.Random(seed)
        cursor = connection.cursor()
        while not self.stopped.is_set():
            count = rng.choice([1, 1, 2, 3, 6])
            try:
                for _ in range(count):
                    cursor.execute(*self._statement(rng))
                if rng.random() < 0.1:
                    connection.rollback()
                    continue
                connection.commit()
            except (psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation):
                connection.rollback()
                continue
            with self.lock:
                self.changes += count

    def _read(self, connection, cache, seed):
        rng = random.Random(seed)
        cursor = connection.cursor()
        while not self.readers_stopped.is_set():
            key = rng.choice(KEYS)
            if cache.exists(key):
                continue
            began = time.monotonic()
            fill(cache, cursor, key)
            # On a machine that is busy: longer than a plain reader may take (G4).
            if time.monotonic() - began > 0.1:
                cache.delete(key)

    def stop_writers(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)

    def stop(self):
        self.stop_writers()
        self.readers_stopped.set()
        for thread in self.readers:
            thread.join(30)
        assert not self.failures, self.failures


def moved_about(tables, redis, cache, evictd, seed, changes):
    evictd.start()
    load = Load(tables, redis, seed)
    eventually("the writers write on", lambda: load.changes >= changes or load.failures, 600)
    oracle.converge(tables, evictd, load)
    assert_true(tables, cache, at_least=20)
    return evictd.metrics()


def test_rows_that_move_about_leave_nothing_stale(tables, redis, cache, make_evictd, seed):
    evictd = make_evictd(rules=audited(RULES))
    metrics = moved_about(tables, redis, cache, evictd, seed, 200_000 if soak() else 8_000)
    counts, findings, _, said = evictd.audit("--sample", "1000")
    assert counts["fresh"] >= 20 and counts["stale"] == counts["unreadable"] == 0, (findings, said)
    assert metrics.sum("evictd_lookup_rows_total") > 500
    assert metrics.sum("evictd_lookups_total", outcome="failed") == 0
    # By keys, not by patterns.
    assert metrics.sum("evictd_invalidations_total", kind="purge") == 0


def test_former_parents_that_are_forgotten_are_caught(tables, redis, cache, make_evictd, seed):
    evictd = make_evictd(rules=audited(RULES), program="evictd_broken_parents")
    with pytest.raises(AssertionError, match="the cache does not tell the truth"):
        moved_about(tables, redis, cache, evictd, seed, 20_000)
    wrong, _ = stale_keys(tables, cache)
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert code == 1 and 0 < counts["stale"] <= len(wrong) and counts["unreadable"] == 0, (counts, len(wrong))
    assert {one["key"] for one in findings} <= {text.split(": cached")[0] for text in wrong}
