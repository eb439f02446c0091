"""What operators are given: the DBA's script, the user of Redis, a first configuration, tests of rules, purges of rows."""

import os
import re
import shlex
import subprocess

import pytest

from harness import process
from harness.daemon import Evictd
from harness.waiting import eventually

RULES = """
- {name: products, table: products, keys: ["product:{id}", "product:slug:{slug}"], tags: ["category:{category_id}"]}
- {name: categories, table: categories, keys: ["category-row:{id}"]}
"""


def psql(postgres, script, folder):
    file = os.path.join(folder, "dba.sql")
    with open(file, "w", encoding="utf-8") as out:
        out.write(script)
    return subprocess.run(["psql", "-X", "-f", file, postgres.url()], capture_output=True, text=True, check=False)


def findings_of_postgres(text):
    return re.findall(r"PG\d+ (?:error|warning).*", text)


@pytest.fixture(name="bare")
def shop_without_role_or_identity(make_postgres):
    server = make_postgres()
    server.execute("alter table products replica identity default")
    server.execute("""create table parts (id int, region text, note text, primary key (id, region)) partition by list (region);
        create table parts_eu partition of parts for values in ('eu');
        create table parts_us partition of parts for values in ('us');
        create table "Odd name" (id int primary key, "Old Value" text)""")
    return server


def test_the_dbas_script_makes_the_next_check_clean(bare, redis, cache, folder):
    rules = RULES + """
- {table: parts, keys: ["part:{id}:{note}"]}
- {table: "public.Odd name", keys: ["odd:{\\"Old Value\\"}"]}
"""
    evictd = Evictd(f"{folder}/evictd", bare.url(user="evictd"), redis.url(), rules)
    before = evictd.command("check")
    assert before.returncode != 0, before.stdout  # the role is not there
    script = evictd.command("check", "--sql")
    assert script.returncode == 0, script.stderr
    done = psql(bare, script.stdout, folder)
    assert done.returncode == 0, done.stderr
    assert "done: run evictd check again" in done.stdout
    after = evictd.command("check")
    assert findings_of_postgres(after.stdout) == [], after.stdout
    assert after.returncode == 0
    # Once more changes nothing.
    again = psql(bare, script.stdout, folder)
    assert again.returncode == 0 and not re.search(r"^(alter|grant|create (?!temporary))", again.stdout, re.M | re.I), again.stdout
    # It is enough to work with.
    evictd.start()
    try:
        cache.set("product:slug:product-7", "old")
        cache.set("odd:before", "old")
        bare.execute("""insert into "Odd name" values (1, 'before')""")
        bare.execute("""update products set slug = 'seven' where id = 7; update "Odd name" set "Old Value" = 'after'""")
        eventually("the old keys are gone", lambda: cache.exists("product:slug:product-7", "odd:before") == 0)
    finally:
        evictd.stop()


JOINED = """
- table: order_items
  via:
    order: {table: orders, match: {id: order_id}}
    customer: {table: customers, match: {number: order.customer}}
  keys: ["customer:{customer.name}"]
"""


def test_the_dbas_script_lets_joined_tables_be_read(bare, redis, cache, folder):
    bare.execute("""create schema sales; create table customers (number int primary key, name text, secret text);
        create table sales.orders (id int, customer int references customers, primary key (id) deferrable);
        create table order_items (id int primary key, order_id int);
        insert into customers values (5, 'ann'); insert into sales.orders values (1, 5); alter table customers enable row level security""")
    rules = JOINED.replace("table: orders", "table: sales.orders")
    evictd = Evictd(f"{folder}/evictd", bare.url(user="evictd"), redis.url(), rules)
    script = evictd.command("check", "--sql").stdout
    done = psql(bare, script, folder)
    assert done.returncode == 0, done.stderr
    after = evictd.command("check")
    assert findings_of_postgres(after.stdout) == [], after.stdout + done.stdout
    may = "select has_column_privilege('evictd', 'customers', '{}', 'select')"
    assert bare.value(may.format("name")) and not bare.value(may.format("secret"))
    again = psql(bare, script, folder)
    assert again.returncode == 0 and not re.search(r"^(alter|grant|create (?!temporary))", again.stdout, re.M | re.I), again.stdout
    # The application's writes go on, and what they touch is deleted.
    evictd.start()
    try:
        cache.set("customer:ann", "old")
        bare.execute("update sales.orders set customer = 5 where id = 1; insert into order_items values (1, 1)")
        eventually("the joined row's key is gone", lambda: not cache.exists("customer:ann"))
    finally:
        evictd.stop()


def test_the_dbas_script_mends_a_publication_that_is_there(bare, redis, cache, folder):
    bare.execute("create publication evictd for table only categories with (publish = 'insert')")
    evictd = Evictd(f"{folder}/evictd", bare.url(user="evictd"), redis.url(), RULES)
    done = psql(bare, evictd.command("check", "--sql").stdout, folder)
    assert done.returncode == 0, done.stderr
    checked = evictd.command("check")
    assert findings_of_postgres(checked.stdout) == [], checked.stdout


def test_the_dbas_script_breaks_no_write_of_a_table_that_somebody_publishes_by_a_list_of_columns(bare, redis, folder):  # G7
    """PostgreSQL refuses UPDATE and DELETE where a list leaves out a column of the replica identity, and all are in FULL."""
    bare.execute("""create publication debezium for table products (id, slug, price_cents), parts (id, region) with (publish_via_partition_root = true)""")
    rules = RULES + "- {table: parts, keys: ['part:{id}:{note}']}\n"
    evictd = Evictd(f"{folder}/evictd", bare.url(user="evictd"), redis.url(), rules)
    done = psql(bare, evictd.command("check", "--sql").stdout, folder)
    assert done.returncode == 0, done.stderr
    bare.execute("update products set price_cents = 1 where id = 1; insert into parts values (1, 'eu'); update parts set note = 'x'; delete from parts")
    assert "publication evictd" in done.stdout and bare.value("select count(*) from pg_publication_tables where pubname = 'evictd'") == 4
    # ... nor does check advise it without a word.
    found = evictd.command("check").stdout
    advised = re.findall(r"ALTER TABLE \S+ REPLICA IDENTITY FULL;.*", found)
    assert advised and all("not before publication 'debezium' sends all its columns" in line for line in advised), found


def test_the_dbas_script_refuses_another_database(bare, redis, cache, folder):
    evictd = Evictd(f"{folder}/evictd", bare.url(user="evictd", database="other"), redis.url(), RULES)
    done = psql(bare, evictd.command("check", "--sql").stdout, folder)
    assert done.returncode != 0 and "this script is for another database" in done.stderr
    assert bare.value("select count(*) from pg_roles where rolname = 'evictd'") == 0


EVERYTHING = """
- {name: products, table: products, keys: ["product:{id}"], tags: ["category:{category_id}"], fill: checked}
- {name: categories, table: categories, tags: ["lazy:{id}"], tags_mode: lazy, fill: checked, bump: ["ns:catalog"], announce: "shop changes"}
- {name: plain, table: products, keys: ["plain:{id}"], announce: "shop changes"}
"""


def test_the_user_of_redis_is_enough_and_may_do_nothing_else(postgres, redis, cache, folder):
    evictd = Evictd(f"{folder}/evictd", postgres.url(), redis.url().replace("redis://", "redis://evictd:secret@"), EVERYTHING)
    told = evictd.command("check", "--acl")
    assert told.returncode == 0 and "PASSWORD" in told.stderr
    daemon, check = told.stdout.splitlines()
    assert "secret" not in told.stdout
    cache.execute_command(*shlex.split(daemon.replace("PASSWORD", "secret")))
    evictd.start()
    try:
        cache.set("plain:1", "x")
        cache.set("product:1", "x")
        cache.set("product:50", "x")
        cache.sadd("tag:category:5", "product:50")
        postgres.execute("update products set category_id = 5 where id = 1; update categories set name = name || '' where id = 1")
        eventually("the keys are gone", lambda: cache.exists("plain:1", "product:1", "product:50") == 0)
        eventually("the counter is raised", lambda: cache.get("ns:catalog") is not None)
        cache.set("plain:2", "x")
        postgres.execute("truncate products cascade")
        eventually("the pattern is purged", lambda: cache.get("plain:2") is None)
        eventually("the log says so", lambda: re.search(r"purged pattern 'plain:\*' of rule 'plain' \(changes\): 1 key in", evictd.log_text()))
    finally:
        assert evictd.stop() == 0
    refused = [entry for entry in cache.execute_command("ACL", "LOG") if b"evictd" in str(entry).encode()]
    assert refused == [], refused
    # Nothing else: neither other keys nor other commands.
    for command in (["GET", "session:1"], ["SET", "session:1", "x"], ["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"],
                    ["HGETALL", "product:1"], ["PUBLISH", "other", "x"], ["EVALSHA", "0" * 40, "1", "session:1"]):
        assert cache.execute_command("ACL", "DRYRUN", "evictd", *command) != b"OK", command
    allowed = dict(zip(*[iter(cache.execute_command("ACL", "GETUSER", "evictd"))] * 2))[b"commands"].decode()
    assert "+@" not in allowed and allowed.startswith("-@all"), allowed
    # With the second line, check has nothing to say of the rights.
    cache.execute_command(*shlex.split(check))
    checked = evictd.command("check")
    assert not re.search(r"RD003|RD013|RD004|RD011", checked.stdout), checked.stdout


def test_the_user_of_redis_is_enough_without_tags(postgres, redis, cache, folder):
    evictd = Evictd(f"{folder}/evictd", postgres.url(), redis.url().replace("redis://", "redis://keys:secret@"),
                    '- {table: products, keys: ["product:{id}"]}\n')
    for line in evictd.command("check", "--acl").stdout.splitlines():
        assert "sscan" not in line and "incrby" not in line and "publish" not in line
        cache.execute_command(*shlex.split(line.replace("PASSWORD", "secret")))
    checked = evictd.command("check")
    assert not re.search(r"RD003|RD013|RD004|RD011", checked.stdout), checked.stdout
    evictd.start()
    try:
        cache.set("product:1", "x")
        postgres.execute("update products set name = name || '' where id = 1")
        eventually("the key is gone", lambda: cache.get("product:1") is None)
    finally:
        assert evictd.stop() == 0


def test_the_scripts_for_owners_are_nothing_else(postgres, redis, cache, folder):
    evictd = Evictd(f"{folder}/evictd", postgres.url(), redis.url(), "- {tabel: products}\n")
    for form in ("--sql", "--acl"):
        told = evictd.command("check", form)
        assert told.returncode == 2 and told.stdout == "" and "rules.yaml:1" in told.stderr, told


def test_init_proposes_what_check_and_run_accept(postgres, redis, cache, folder):
    postgres.execute("""create table notes (body text); create unlogged table visits (id int primary key);
        create table parents (id int primary key); create table children () inherits (parents);
        create table months (id int primary key) partition by range (id); create table month1 partition of months for values from (0) to (9)""")
    cache.mset({f"shop:product:{number}": "x" for number in range(1, 30)})
    out = f"{folder}/proposed"
    program = Evictd(f"{folder}/unused", postgres.url(), redis.url(), RULES).program
    init = [program, "init", "--postgres", postgres.url(), "--redis", redis.url(), "--out", out]
    made = subprocess.run(init, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with open(f"{out}/rules.yaml", encoding="utf-8") as file:
        rules = file.read()
    assert '"shop:product:{id}"' in rules and "# public.notes: it has no primary key" in rules and "# public.visits: unlogged" in rules
    assert "# public.parents: it, or a table below it, has no replica identity" in rules and "table: public.months" in rules
    assert "primary key; 29 of 37 keys in Redis begin with 'shop:product:'" in rules, rules
    again = subprocess.run(init, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "nothing is overwritten" in again.stderr
    checked = subprocess.run([program, "check", "-c", f"{out}/evictd.yaml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with open(f"{out}/evictd.yaml", "a", encoding="utf-8") as file:
        file.write("http: {listen: off}\n")
    running = process.start([program, "run", "-c", f"{out}/evictd.yaml"], log=f"{folder}/run.log")
    try:
        def it_deletes():
            postgres.execute("update products set name = name || '' where id = 7")
            return cache.get("shop:product:7") is None

        eventually("it deletes what the proposal names", it_deletes)
    finally:
        process.end(running)


def test_init_writes_both_files_or_neither(postgres, redis, cache, folder):
    program = Evictd(f"{folder}/unused", postgres.url(), redis.url(), RULES).program
    out = f"{folder}/odd folder"
    os.mkdir(out)
    init = [program, "init", "--postgres", postgres.url(), "--redis", "redis://127.0.0.1:1", "--out", out]
    for there, other in (("evictd.yaml", "rules.yaml"), ("rules.yaml", "evictd.yaml")):
        with open(f"{out}/{there}", "w", encoding="utf-8") as file:
            file.write("mine")
        refused = subprocess.run(init, capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and f"cannot write '{out}/{there}': File exists" in refused.stderr, refused.stderr
        assert os.listdir(out) == [there], other
        os.remove(f"{out}/{there}")
    made = subprocess.run(init, capture_output=True, text=True, check=False)
    assert made.returncode == 0 and f"evictd check -c '{out}/evictd.yaml'\n" in made.stdout, made.stdout + made.stderr
    with open(f"{out}/rules.yaml", encoding="utf-8") as file:
        assert "Redis was not reached" in file.read()


def test_init_says_when_there_is_nothing_to_propose(postgres, redis, cache, folder):
    program = Evictd(f"{folder}/unused", postgres.url(), redis.url(), RULES).program
    made = subprocess.run([program, "init", "--postgres", postgres.url(database="postgres"), "--redis", redis.url(), "--out",
                           f"{folder}/proposed"], capture_output=True, text=True, check=False)
    assert made.returncode == 2 and "database 'postgres' has no table" in made.stderr and not os.path.exists(f"{folder}/proposed")


def test_init_writes_no_password(postgres, redis, cache, folder):
    program = Evictd(f"{folder}/unused", postgres.url(), redis.url(), RULES).program
    redis.client().execute_command("ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all")
    made = subprocess.run([program, "init", "--postgres", postgres.url().replace("postgres@", "postgres:hunter2@"), "--redis",
                           redis.url().replace("redis://", "redis://app:hunter2@"), "--out", f"{folder}/proposed"],
                          capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with open(f"{folder}/proposed/evictd.yaml", encoding="utf-8") as file:
        text = file.read()
    assert "hunter2" not in text + made.stdout + made.stderr and "${REDIS_PASSWORD}" in text and "PGPASSWORD" in text


def test_rules_test_fails_readably(postgres, redis, cache, make_evictd, folder):
    evictd = make_evictd(rules=RULES)
    cases = f"{folder}/cases.yaml"
    with open(cases, "w", encoding="utf-8") as file:
        file.write("- {table: products, new: {id: 1, slug: a, category_id: 2}, keys: ['product:1', 'product:slug:a'], tags: ['category:2']}\n"
                   "- {name: wrong, table: categories, old: {id: 3}, keys: ['category:3']}\n")
    tested = evictd.command("rules", "test", cases)
    assert tested.returncode == 1, tested.stderr
    assert tested.stdout.endswith("1 passed, 1 failed\n") and "missing  key    category:3" in tested.stdout, tested.stdout


def test_purge_of_rows(make_postgres, redis, cache, folder):
    postgres = make_postgres({"track_commit_timestamp": "on"})
    evictd = Evictd(f"{folder}/evictd", postgres.url(), redis.url(), RULES + """
- {name: lists, table: products, purge: ["list:*"]}
- {name: cheap, table: products, where: {slug: cheap}, keys: ["cheap:{id}"]}
""")
    first = postgres.value("select category_id from products where id = 1")
    cache.mset({"product:1": "x", "product:2": "x", "product:slug:product-1": "x", "listed": "x", "list:a": "x", "cheap:1": "x"})
    cache.sadd(f"tag:category:{first}", "listed")
    purged = evictd.command("purge", "--table", "products", "--where", "id = 1 -- the first")
    assert purged.returncode == 0, purged.stderr
    assert purged.stdout.startswith("1 row of public.products\nlist:*  deleted 1, already gone 0\n"
                                    "rule 'products' keys  deleted 2, already gone 0\n"), purged.stdout
    assert cache.exists("product:1", "product:slug:product-1", "listed", "list:a") == 0
    assert cache.get("product:2") == b"x" and cache.get("cheap:1") == b"x"
    # Since: what was written just now, of every table.
    postgres.execute("select pg_sleep(3)")
    postgres.execute("update products set name = name || '' where id = 2")
    purged = evictd.command("purge", "--since", "2s")
    assert purged.returncode == 0, purged.stderr
    assert "1 row of public.products\n0 rows of public.categories\n" in purged.stdout, purged.stdout
    assert cache.get("product:2") is None
    wrong = evictd.command("purge", "--table", "products", "--where", "nonsense = 1")
    assert wrong.returncode != 0 and wrong.stderr.startswith("'--where': ") and "nonsense" in wrong.stderr
    for half, said in (("id=", "'--where': expected a condition in SQL, got 'id=': syntax error at end of input\nhint: for example --where 'id = 7'\n"),
                       ("true order by id", "'--where': expected a condition in SQL and nothing behind it, got 'true order by id'\n"),
                       ("true) or (true", "'--where': expected a condition in SQL, got 'true) or (true': syntax error at or near \")\"\n")):
        wrong = evictd.command("purge", "--table", "products", "--where", half)
        assert wrong.returncode == 2 and wrong.stderr.startswith(said), wrong.stderr
    harm = evictd.command("purge", "--table", "products", "--where", "id in (select 1); drop table products; --")
    assert harm.returncode != 0 and postgres.value("select count(*) from products") > 0


def test_what_may_not_be_read_is_granted_by_the_statement_that_is_told(postgres, redis, make_evictd):
    postgres.execute("""create role "Odd role" login; create schema "a.b"; create table "a.b"."UPPER" (id int primary key);
        create table "SHOUT" (id int primary key)""")
    evictd = make_evictd(rules="""
- {table: '"a.b".UPPER', keys: ["u:{id}"]}
- {table: SHOUT, keys: ["s:{id}"]}
""", postgres_url=postgres.url(user="Odd%20role"))
    for table in ('"a.b".UPPER', "SHOUT"):
        for _ in range(3):
            done = evictd.command("explain", "--from-table", table)
            if done.returncode == 0:
                break
            statement = re.search(r"GRANT [^;]*;", done.stderr).group()
            assert statement.endswith(' TO "Odd role";'), done.stderr
            postgres.execute(statement)
        assert done.returncode == 0, done.stderr


def test_purge_since_takes_what_may_have_been_written_before_timestamps_were_kept(make_postgres, redis, cache, folder):
    postgres = make_postgres()
    evictd = Evictd(f"{folder}/evictd", postgres.url(user=ordinary(postgres)), redis.url(), RULES)
    postgres.execute("update products set name = name || '' where id = 2")
    postgres.execute("alter system set track_commit_timestamp = on")
    postgres.stop()
    postgres.start()
    rows = postgres.value("select count(*) from products")
    purged = evictd.command("purge", "--since", "10m", "--table", "products")
    assert purged.returncode == 0 and f"{rows} rows of public.products\n" in purged.stdout, (purged.stdout, purged.stderr)
    postgres.execute("select pg_sleep(2.5)")
    postgres.execute("update products set name = name || '' where id = 3")
    purged = evictd.command("purge", "--since", "2s", "--table", "products")
    assert purged.returncode == 0 and "1 row of public.products\n" in purged.stdout, (purged.stdout, purged.stderr)


def ordinary(postgres):
    postgres.execute("create role ordinary login; grant select on all tables in schema public to ordinary")
    return "ordinary"


def test_purge_since_says_what_it_needs(postgres, redis, cache, make_evictd):
    purged = make_evictd(rules=RULES).command("purge", "--since", "10m")
    assert purged.returncode != 0 and "hint: set track_commit_timestamp = on" in purged.stderr, purged.stderr


def test_explain_takes_live_rows_and_tells_what_holds_back(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES + """
- {name: cheap, table: products, where: {slug: cheap}, keys: ["cheap:{id}"]}
- {name: renamed, table: products, when_changed: [name], keys: ["named:{id}"]}
- {name: new, table: products, on: [insert], keys: ["new:{id}"]}
""")
    rows = evictd.command("explain", "--from-table", "products", "--where", "id = 7")
    assert rows.returncode == 0, rows.stderr
    assert "row of public.products  id=7" in rows.stdout and "named:7" in rows.stdout, rows.stdout
    assert "cheap:7" not in rows.stdout and "column 'slug' is 'product-7'  rule 'cheap'" in rows.stdout, rows.stdout
    changed = evictd.command("explain", "--from-table", "products", "--where", "id = 7", "--op", "update", "--new", '{"slug": "seven"}')
    assert "product:slug:seven" in changed.stdout and "product:slug:product-7" in changed.stdout, changed.stdout
    assert "named:7" not in changed.stdout
    for reason in ("'where' does not hold: column 'slug' is 'seven'  rule 'cheap'", "no column of 'when_changed' changed  rule 'renamed'",
                   "'on' does not name this operation  rule 'new'"):
        assert f"note   {reason}" in changed.stdout, changed.stdout
    # By the primary key alone, the old slug is not sent: what evictd would do then, not what the row in the table tells.
    postgres.execute("alter table products replica identity default")
    changed = evictd.command("explain", "--from-table", "products", "--where", "id = 7", "--op", "update", "--new", '{"slug": "seven"}')
    assert "purge  product:slug:*" in changed.stdout and "named:7" in changed.stdout, changed.stdout
    gone = evictd.command("explain", "--from-table", "products", "--where", "id = 7", "--op", "delete")
    assert "purge  product:slug:*" in gone.stdout and "product:slug:product-7" not in gone.stdout, gone.stdout
    assert "product:7 " in gone.stdout, gone.stdout
    wrong = evictd.command("explain", "--from-table", "products", "--op", "update", "--new", '{"slog": "x"}')
    assert wrong.returncode == 2 and "did you mean 'slug'" in wrong.stderr, wrong.stderr

