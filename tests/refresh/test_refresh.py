"""`refresh:` on real servers: what was used and deleted is filled anew by a checked fill, and nothing else is promised less."""

import random
import shutil
import signal
import threading
import time

import pytest
from harness import daemon, fixtures, load, oracle, process, servers, shop
from harness.waiting import eventually

VALUE = "name || '@' || price_cents"
QUERY = f"select id, {VALUE} from products where id = any($1)"
SELECT = f"select {VALUE}, pg_current_snapshot()::text from products where id = %s"
RULE = "- {table: public.products, name: products, keys: ['product:{id}'], fill: checked%s, refresh: {%s}}\n"


@pytest.fixture(scope="module")
def shared():
    """One PostgreSQL and one Redis for the tests of this file: each begins with the shop as it was."""
    folder = process.temporary_folder()
    postgres = servers.Postgres(f"{folder}/postgres").start()
    shop.create(postgres, daemon.ROOT)
    postgres.execute("create table secrets (id int primary key, secret text); create role evictd_reader login replication in role pg_monitor;"
                     "grant create on database shop to evictd_reader; alter table products owner to evictd_reader; grant usage on schema public to evictd_reader")
    redis = servers.Redis(f"{folder}/redis").start()
    yield postgres, redis
    postgres.stop("immediate")
    redis.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(shared):
    server = shared[0]
    yield server
    hold_commits(server, False)
    eventually("evictd is gone", lambda: server.value("select count(*) from pg_replication_slots where active") == 0)
    server.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    server.execute("drop publication if exists evictd")


@pytest.fixture
def redis(shared):
    server = shared[1]
    client = server.client()
    client.flushall()
    client.config_set("maxmemory", "0")
    client.config_resetstat()
    return server


def rules(query=QUERY, more="per_second: 10000", extra=""):
    return RULE % (extra, f"query: \"{query}\", ttl: 10m, {more}")


def marker(key):
    return "evictd:{" + key + "}"


def read(postgres, product):
    return postgres.execute(SELECT, (product,))[0]


def fill(postgres, cache, products):
    for product in products:
        value, token = read(postgres, product)
        assert cache.fcall("evictd_fill", 2, f"product:{product}", marker(f"product:{product}"), token, 600_000, value) == 1


def value_of(cache, product):
    value = cache.get(f"product:{product}")
    return value.decode() if value is not None else None


def is_fresh(postgres, cache, products):
    for product in products:
        cached, row = value_of(cache, product), read(postgres, product)[0]
        assert cached == row, f"product:{product} is {cached!r}, the row says {row!r}"
    return True


def counted(evictd, outcome, rule="products"):
    return evictd.metrics().sum("evictd_refresh_total", outcome=outcome, cache="redis", rule=rule)


class Load(load.Load):
    """Writers that change rows, and readers with leases."""

    def __init__(self, postgres, redis, seed, products):
        self.products = products
        self.writes = self.loads = self.hits = 0
        super().__init__(postgres, redis, seed, [self._write, self._write, self._read, self._read])

    def _write(self, _connection, cursor, _client, source):
        cursor.execute("update products set price_cents = %s where id = %s", (source.randrange(10**6), source.randint(1, self.products)))
        self.writes += 1

    def _read(self, _connection, cursor, cache, source):
        key = f"product:{source.randint(1, self.products)}"
        state, _, lease, _ = cache.fcall("evictd_get", 2, key, marker(key), "LEASE", 2000)
        if state in (b"fresh", b"busy") or lease is None:
            self.hits += state == b"fresh"
            return
        cursor.execute(SELECT, (int(key.split(":")[1]),))
        value, token = cursor.fetchone()
        cache.fcall("evictd_fill", 2, key, marker(key), token, 600_000, value)
        self.loads += 1


def test_what_was_used_is_filled_anew_and_nothing_else(postgres, cache, make_evictd):
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, range(1, 51))
    postgres.execute("update products set price_cents = price_cents + 1")
    eventually("the fifty that were cached are again", lambda: is_fresh(postgres, cache, range(1, 51)))
    eventually("they are counted", lambda: counted(evictd, "filled") == 50)
    assert not cache.exists(*[f"product:{product}" for product in range(51, 101)]), "nobody had asked for these"
    # As a reader's: with a version, a lifetime that varies, and no lease left behind.
    state, _, _, version = cache.fcall("evictd_get", 2, "product:7", marker("product:7"))
    assert state == b"fresh" and b":" in version
    lifetimes = {cache.pttl(f"product:{product}") // 1000 for product in range(1, 51)}
    assert len(lifetimes) > 10 and max(lifetimes) <= 600 and min(lifetimes) >= 500
    stats = dict(zip(*[iter(cache.fcall("evictd_stats", 0))] * 2))
    assert stats[b"stored"] == 50 and stats[b"leases"] == 0, "evictd's own fills are counted among the readers'"


def test_values_are_true_under_writers_and_readers(postgres, redis, cache, make_evictd, seed):  # G3
    products = 100
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, range(1, products + 1))
    with Load(postgres, redis, seed, products) as running:
        eventually("keys are filled anew under load", lambda: counted(evictd, "filled") >= (20_000 if fixtures.soak() else 500), 600)
    oracle.converge(postgres, evictd)
    eventually("nothing waits", lambda: evictd.metrics().sum("evictd_refresh_waiting") == 0)
    found = [product for product in range(1, products + 1) if value_of(cache, product) is not None]
    assert len(found) > products / 2 and running.writes > 100 and running.hits > 100
    assert is_fresh(postgres, cache, found)


def hold_commits(postgres, hold):
    """Commits stay invisible, although the stream has them: a synchronous standby that does not exist."""
    postgres.execute(f"alter system {'set' if hold else 'reset'} synchronous_standby_names{' = %s' % repr('nobody') if hold else ''}")
    postgres.execute("select pg_reload_conf()")
    eventually("PostgreSQL has read its settings", lambda: (postgres.value("show synchronous_standby_names") == "nobody") == hold)


def old_row_is_not_stored(postgres, redis, cache, evictd):
    fill(postgres, cache, [7])
    before = value_of(cache, 7)
    hold_commits(postgres, True)
    writer = threading.Thread(target=postgres.execute, args=("update products set price_cents = price_cents + 1 where id = 7",))
    writer.start()
    try:
        # By evictd's own record: the value may be back before anybody looks.
        eventually("the delete", lambda: evictd.metrics().sum("evictd_invalidations_total", kind="key", outcome="deleted") >= 1)
        eventually("it was tried", lambda: cache.info("commandstats")["cmdstat_evalsha"]["calls"] >= 3)
        deadline = time.monotonic() + 1
        eventually("several tries", lambda: value_of(cache, 7) is not None or time.monotonic() > deadline)
        held = value_of(cache, 7)
    finally:
        hold_commits(postgres, False)
        writer.join()
    return before, held


def test_a_row_that_is_not_visible_yet_is_read_again_until_it_is(postgres, redis, cache, make_evictd):
    """The window in which every value that is read is the old one: nothing is stored that has not seen the change."""
    evictd = make_evictd(rules()).start()
    _, held = old_row_is_not_stored(postgres, redis, cache, evictd)
    assert held is None
    eventually("it is filled once it is visible", lambda: is_fresh(postgres, cache, [7]), 30)
    eventually("it is counted once", lambda: counted(evictd, "filled") == 1)
    assert counted(evictd, "rejected") == 0


def test_a_value_under_a_tag_that_is_no_set_is_not_stored_and_keeps_no_other_waiting(postgres, cache, make_evictd):
    evictd = make_evictd(rules(f"select id, {VALUE}, array['near:' || id] as tags from products where id = any($1)")).start()
    fill(postgres, cache, [1, 2])
    cache.set("tag:near:1", "no set")
    postgres.execute("update products set price_cents = price_cents + 1 where id in (1, 2)")
    eventually("the other one is filled", lambda: value_of(cache, 2) == read(postgres, 2)[0])
    eventually("it is told", lambda: "'product:1' is not stored: the key of one of its tags is of another type" in evictd.log_text())
    assert value_of(cache, 1) is None, "it would be listed nowhere"
    assert evictd.metrics().sum("evictd_refresh_total", outcome="failed") == 1


def test_a_build_that_claims_to_have_seen_everything_is_found(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules(), program="evictd_broken_refresh").start()
    before, held = old_row_is_not_stored(postgres, redis, cache, evictd)
    assert held == before, "the broken build did no harm: the test above proves nothing"
    with pytest.raises(AssertionError):
        is_fresh(postgres, cache, [7])
    oracle.converge(postgres, evictd)
    counts, findings, code, _ = evictd.audit("--sample", "1000")
    assert (code, counts["stale"], [one["key"] for one in findings]) == (1, 1, ["product:7"]), counts


def test_a_kill_in_the_middle_leaves_nothing_stale_and_nobody_waiting(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd(rules(more="per_second: 200")).start()
    source = random.Random(seed)
    for _ in range(10 if fixtures.soak() else 2):
        fill(postgres, cache, [product for product in range(1, 101) if value_of(cache, product) is None])
        done = counted(evictd, "filled")
        postgres.execute("update products set price_cents = price_cents + 1")
        eventually("some are filled", lambda: counted(evictd, "filled") >= done + source.randint(5, 60))
        evictd.kill()
        postgres.execute("update products set price_cents = price_cents + 1 where id % 2 = 0")
        evictd.start()
        oracle.converge(postgres, evictd)
        assert is_fresh(postgres, cache, [product for product in range(1, 101) if value_of(cache, product) is not None])
    # A lease that a killed one held is over after seconds.
    eventually("every key can be had", lambda: all(
        cache.fcall("evictd_get", 2, f"product:{product}", marker(f"product:{product}"))[0] != b"busy" for product in range(1, 101)), 10)


FAILING = {
    "a column that is not there": ("select id, colour from products where id = any($1)", "colour"),
    "a table that may not be read": ("select id, secret from secrets where id = any($1)", "permission denied"),
    "no value": ("select id from products where id = any($1)", "expected id and then the value"),
    "columns too many": (f"select id, {VALUE}, slug from products where id = any($1)", "got 'slug' behind the value"),
    "other keys": (f"select id + 1000, {VALUE} from products where id = any($1)", "which it was not asked for"),
    "two values": (f"select id, {VALUE} from products, generate_series(1, 2) where id = any($1)", "answers 2 times"),
    # Too much, or on a busy machine too slow; what it takes of memory is looked at below.
    "rows without end": ("select id, repeat('x', 1000) from products, generate_series(1, 100000) where id = any($1)", ""),
    "a query that writes": (f"with w as (update products set name = 'x' where false returning 1) select id, {VALUE} from products where id = any($1)", ""),
}


def test_a_query_that_fails_is_told_and_the_key_stays_deleted(postgres, cache, make_evictd):
    evictd = make_evictd(rules(), postgres_url=postgres.url(user="evictd_reader")).start()
    cached = cache.fcall
    reloads = 0

    def reload(query):
        nonlocal reloads
        reloads += 1
        evictd.write_rules(rules(query))
        evictd.signal(signal.SIGHUP)
        eventually("the rules are read", lambda: evictd.log_text().count("reloaded the rules") == reloads)

    def change():
        fill(postgres, cache, [1, 2, 3])
        postgres.execute("update products set price_cents = price_cents + 1 where id <= 3")

    for what, (query, said) in FAILING.items():
        reload(query)
        before = counted(evictd, "failed") + counted(evictd, "absent")
        change()
        eventually(f"{what} is counted", lambda: counted(evictd, "failed") + counted(evictd, "absent") == before + 3)  # pylint: disable=cell-var-from-loop
        assert not cache.exists("product:1", "product:2", "product:3"), what
        eventually(f"{what} is told", lambda: "not refreshed: rule 'products'" in evictd.log_text() and said in evictd.log_text())  # pylint: disable=cell-var-from-loop
        eventually("on the status page too", lambda: said in evictd.status()["refresh"][0]["problems"][0])  # pylint: disable=cell-var-from-loop
        # Nobody waits for a lease of ours.
        eventually("a reader gets the lease", lambda: cached("evictd_get", 2, "product:1", marker("product:1"), "LEASE", 10)[0] == b"miss", 2)
    assert evictd.has_used_little(200), "no answer is gathered whole"
    reload(QUERY)
    change()
    eventually("it is filled once it is mended", lambda: is_fresh(postgres, cache, [1, 2, 3]))
    eventually("and the problem is over", lambda: evictd.status()["refresh"][0]["problems"] == [])


def test_a_query_that_hangs_holds_up_neither_deletes_nor_other_rules(postgres, cache, make_evictd):
    slow = (RULE % ("", "query: \"select id, name from categories where id = any($1) and (id = 0 or pg_sleep(60) is not null)\", ttl: 10m")
            ).replace("public.products, name: products, keys: ['product:{id}']", "public.categories, name: slow, keys: ['category:{id}']")
    evictd = make_evictd(slow + rules()).start()
    cache.fcall("evictd_fill", 2, "category:1", marker("category:1"), postgres.value("select pg_current_snapshot()::text"), 600_000, "x")
    fill(postgres, cache, [1, 2, 3])
    postgres.execute("update categories set name = name || '.' where id = 1")
    eventually("it hangs", lambda: postgres.value("select count(*) from pg_stat_activity where application_name = 'evictd refresh' and query like '%execute%' and state = 'active'") == 1)
    # Meanwhile deletes go on, and are acknowledged.
    postgres.execute("update products set price_cents = price_cents + 1")
    oracle.converge(postgres, evictd)
    assert postgres.value("select count(*) from pg_stat_activity where application_name = 'evictd refresh' and state = 'active'") == 1, \
        "the query ended before the deletes: nothing is proven"
    eventually("the other rule is filled", lambda: is_fresh(postgres, cache, [1, 2, 3]), 15)
    eventually("the slow one is given up", lambda: counted(evictd, "failed", "slow") == 1)
    assert cache.get("category:1") is None
    assert "took longer than 3000 ms" in evictd.status()["refresh"][0]["problems"][0]


def test_a_redis_that_dies_while_the_database_is_asked_ends_nobody(postgres, redis, cache, make_evictd):
    """The leases that were taken there cannot be given back."""
    slow = RULE % ("", "query: \"select id, name from products where id = any($1) and pg_sleep(1) is not null\", ttl: 10m")
    evictd = make_evictd(slow).start()
    fill(postgres, cache, [1])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the database is asked", lambda: postgres.value("select count(*) from pg_stat_activity where application_name = 'evictd refresh' and query like '%execute%' and state = 'active'") == 1)
    redis.stop()
    eventually("the query is over", lambda: postgres.value("select count(*) from pg_stat_activity where application_name = 'evictd refresh' and state = 'active'") == 0)
    redis.start()
    evictd.wait_until_ready()
    fill(postgres, cache, [2])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 2")
    eventually("keys are filled again", lambda: counted(evictd, "filled") >= 1, 30)


def test_keys_go_into_a_stream_for_the_application(postgres, cache, make_evictd):
    evictd = make_evictd(RULE % ("", "stream: 'evictd:refresh', maxlen: 1000")).start()
    fill(postgres, cache, [1, 2])
    postgres.execute("update products set price_cents = price_cents + 1 where id < 10")
    xid = str(postgres.value("select xmin::text from products where id = 1"))
    eventually("both are told", lambda: cache.xlen("evictd:refresh") == 2)
    told = [entry for _, entry in cache.xrange("evictd:refresh")]
    assert sorted(entry[b"key"] for entry in told) == [b"product:1", b"product:2"]
    assert all(entry[b"rule"] == b"products" and entry[b"version"].decode() == xid for entry in told)
    eventually("they are counted", lambda: counted(evictd, "told") == 2)


def test_a_full_redis_takes_no_value_and_still_deletes(postgres, cache, make_evictd):
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, [1, 2, 3])
    cache.config_set("maxmemory", "1mb")
    postgres.execute("update products set price_cents = price_cents + 1")
    eventually("it is counted", lambda: counted(evictd, "failed") == 3)
    assert not cache.exists("product:1", "product:2", "product:3")
    eventually("it is told", lambda: "OOM" in evictd.status()["refresh"][0]["problems"][0])
    cache.config_set("maxmemory", "0")
    fill(postgres, cache, [1, 2, 3])
    postgres.execute("update products set price_cents = price_cents + 1")
    eventually("there is room again", lambda: is_fresh(postgres, cache, [1, 2, 3]), 30)


def test_a_value_is_listed_under_the_tags_that_the_query_names(postgres, cache, make_evictd):
    query = f"select id, {VALUE}, array['category:' || category_id] as tags from products where id = any($1)"
    tags = "- {table: public.categories, name: categories, tags: ['category:{id}'], fill: checked}\n"
    evictd = make_evictd(rules(query) + tags).start()
    fill(postgres, cache, [1])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("it is filled", lambda: is_fresh(postgres, cache, [1]) and counted(evictd, "filled") == 1)
    postgres.execute("update categories set name = name || '.' where id = (select category_id from products where id = 1)")
    eventually("its tag reaches it", lambda: cache.get("product:1") is None)


def test_a_stale_value_is_served_until_it_is_filled(postgres, cache, make_evictd):
    evictd = make_evictd(rules(extra=", mode: stale, grace: 1h", more="per_second: 1")).start()
    fill(postgres, cache, [1, 2, 3])
    postgres.execute("update products set price_cents = price_cents + 1")
    eventually("one is filled", lambda: counted(evictd, "filled") >= 1)
    states = {cache.fcall("evictd_get", 2, f"product:{product}", marker(f"product:{product}"))[0] for product in (1, 2, 3)}
    assert states <= {b"fresh", b"stale"}, "nobody has to wait"
    eventually("all are", lambda: is_fresh(postgres, cache, [1, 2, 3]) and counted(evictd, "filled") == 3, 30)


def test_an_idle_server_can_shut_down_smartly(postgres, cache, make_evictd):  # G7
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, [1])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("it is filled", lambda: counted(evictd, "filled") == 1)
    postgres.stop("smart", patience=30)
    postgres.start()
    eventually("evictd is back", evictd.is_ready, 60)
    fill(postgres, cache, [2])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 2")
    eventually("and fills", lambda: is_fresh(postgres, cache, [2]), 30)


def test_derived_keys_are_filled_anew_whichever_of_their_tables_changed(postgres, cache, make_evictd):
    derived = ("- {table: public.reviews, name: pages, via: {product: {table: public.products, match: {id: product_id}}}, keys: ['page:{product.slug}'], fill: checked, "
               "refresh: {query: \"select p.slug, p.name || ' ' || count(r.id) from products p left join reviews r on r.product_id = p.id where p.slug = any($1) "
               "group by p.slug, p.name\", ttl: 10m}}\n")
    select = "select p.name || ' ' || count(r.id), pg_current_snapshot()::text from products p left join reviews r on r.product_id = p.id where p.id = 3 group by p.name"
    evictd = make_evictd(derived).start()
    value, token = postgres.execute(select)[0]
    assert cache.fcall("evictd_fill", 2, "page:product-3", marker("page:product-3"), token, 600_000, value) == 1
    postgres.execute("insert into reviews (product_id, rating, body) values (3, 5, 'fine')")

    def is_true():
        assert (cache.get("page:product-3") or b"").decode() == postgres.execute(select)[0][0]
        return True

    eventually("it is filled after a review", is_true)
    eventually("it is counted", lambda: counted(evictd, "filled", "pages") == 1)
    postgres.execute("update products set slug = 'renamed' where id = 3")
    eventually("what a joined table's change hits is the same rule's", lambda: counted(evictd, "absent", "pages") == 1)
    assert cache.get("page:product-3") is None
    postgres.execute("update products set slug = 'product-3' where id = 3")
    warmed = evictd.command("warm", "--rule", "pages")
    assert (warmed.returncode, warmed.stdout) == (0, "100 rows: 100 filled\n"), warmed.stderr


def test_warm_fills_a_cold_cache_and_leaves_alone_what_is_there(postgres, cache, make_evictd):
    evictd = make_evictd(rules())
    refused = evictd.command("warm", "--rule", "products")
    assert refused.returncode == 1 and "no record" in refused.stderr
    evictd.start()
    oracle.converge(postgres, evictd)
    fill(postgres, cache, [1, 2])
    done = evictd.command("warm", "--rule", "products", "--where", "id <= 50")
    assert (done.returncode, done.stdout) == (0, "50 rows: 48 filled, 2 fresh\n"), done.stderr
    assert is_fresh(postgres, cache, range(1, 51)) and not cache.exists("product:51")
    assert evictd.command("warm", "--rule", "products", "--rate", "100000").stdout == "100 rows: 50 filled, 50 fresh\n"
    # What is warmed is deleted as anything else.
    postgres.execute("update products set price_cents = price_cents + 1 where id = 51")
    eventually("and filled anew", lambda: is_fresh(postgres, cache, [51]))
    for arguments, said in ((["--rule", "product"], "no rule is named 'product'"), (["--rule", "products", "--where", "colour = 1"], "colour"), ([], "needs '--rule'")):
        wrong = evictd.command("warm", *arguments)
        assert wrong.returncode == 2 and said in wrong.stderr, wrong.stderr


def test_check_and_explain_tell_what_would_happen(postgres, redis, cache, make_evictd):
    tags = "- {table: public.categories, name: categories, tags: ['category:{id}'], fill: checked}\n"
    good = make_evictd(rules() + tags)
    checked = good.command("check").stdout
    assert "RF001" not in checked and "RF002" in checked
    explained = good.command("explain", "--table", "products", "--op", "delete", "--old", '{"id": 1}').stdout
    assert "filled anew if it was cached" in explained
    bad = make_evictd(rules("select id, colour from products where id = any($1)"))
    checked = bad.command("check")
    assert checked.returncode == 2 and "RF001" in checked.stdout and "colour" in checked.stdout


def test_a_row_that_leaves_the_condition_is_not_filled_for_ever(postgres, cache, make_evictd):
    """What the check advises beside `where`, both ways, to the letter."""
    condition = ", where: {category_id: [2, 3]}"
    asks_too = QUERY + " and category_id in (2, 3)"
    behind = "- {table: public.products, name: rest, keys: ['product:{id}'], fill: checked}\n"
    plain = make_evictd(rules(extra=condition))
    checked = plain.command("check").stdout
    assert "RF003" in checked and "rules.yaml" in checked, checked
    two = make_evictd(rules(extra=condition) + behind)
    assert "RF003" not in two.command("check").stdout
    for evictd in (two, make_evictd(rules(asks_too, extra=condition))):
        evictd.start()
        postgres.execute("update products set category_id = 2 where id = 7")
        oracle.converge(postgres, evictd)
        fill(postgres, cache, [7])
        filled = counted(evictd, "filled")
        postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
        eventually("it is filled anew", lambda: counted(evictd, "filled") > filled and is_fresh(postgres, cache, [7]))  # pylint: disable=cell-var-from-loop
        postgres.execute("update products set category_id = 1 where id = 7")
        oracle.converge(postgres, evictd)
        eventually("nothing waits", lambda: evictd.metrics().sum("evictd_refresh_waiting") == 0)  # pylint: disable=cell-var-from-loop
        postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
        oracle.converge(postgres, evictd)
        eventually("it is true, or not there", lambda: value_of(cache, 7) is None or is_fresh(postgres, cache, [7]), 5)
        assert evictd.stop() == 0
        cache.delete("product:7")


def test_readers_come_between_any_two_keys_of_a_lot(postgres, cache, make_evictd):
    """Redis looks at other clients between two reads of its socket: it has each claim and each fill by one of its own."""
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, range(1, 11))
    oracle.converge(postgres, evictd)
    # The way there and back is learnt from these.
    for times in range(1, 11):
        postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
        eventually("the key is back", lambda filled=times: counted(evictd, "filled") == filled)
    before = cache.info("stats")["total_reads_processed"]
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
    eventually("all are back", lambda: counted(evictd, "filled") == 20)
    reads = cache.info("stats")["total_reads_processed"] - before
    assert reads >= 20, f"10 claims and 10 fills came by {reads} reads"
    assert is_fresh(postgres, cache, range(1, 11))


def test_a_query_that_is_edited_and_not_reloaded_fills_nothing(postgres, cache, make_evictd):
    evictd = make_evictd(rules()).start()
    fill(postgres, cache, [7])
    oracle.converge(postgres, evictd)
    evictd.write_rules(rules(QUERY.replace("select id,", "select id, 'another ' ||")))
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("it is filled anew", lambda: counted(evictd, "filled") == 1)
    assert is_fresh(postgres, cache, [7]), cache.get("product:7")
