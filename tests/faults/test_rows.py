"""What PostgreSQL sends of a row depends on much that a user does not think of; the keys may not."""

import re

import psycopg2
import pytest
import scenarios
from harness import oracle, shop
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually

IDENTITIES = {
    # Old values of the primary key only.
    "default": "alter table products replica identity default",
    # Old values of the slug only: a deleted row's id is not sent.
    "index": "alter table products replica identity using index products_slug_key",
    "full": "alter table products replica identity full",
}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_any_replica_identity_ends_with_a_true_cache(postgres, redis, cache, make_evictd, seed, identity):
    """Where an old value is missing, the rule's pattern is purged instead: more than needed, never less."""
    postgres.execute(IDENTITIES[identity])
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed, actions=["price", "slug", "move", "remove_or_add", "sale"])
    target = running.writes + (2000 if soak() else 150)
    eventually("the writers write on", lambda: running.writes >= target, 120)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=10)
    unmappable = evictd.metrics().sum("evictd_unmappable_changes_total")
    assert (unmappable == 0) == (identity == "full"), f"{unmappable} unmappable changes"


def test_a_row_filter_that_fails_at_a_row_is_ended_by_what_the_log_says(postgres, cache, make_evictd):
    """The filter counts as it was when the row was written, so that the server fails at it again whatever became of the filter."""
    if int(postgres.value("show server_version_num")) < 150000:
        pytest.skip("row filters came with PostgreSQL 15")
    postgres.execute("create table shares (id integer primary key, of integer)")
    postgres.execute("create publication evictd for table shares where (100 / of > 1)")
    evictd = make_evictd(rules="- {table: public.shares, keys: ['share:{id}']}\n").start(ready=False)
    eventually("it streams", lambda: "streaming, epoch" in evictd.log_text())
    cache.set("share:1", "old")
    postgres.execute("insert into shares values (1, 0)")
    eventually("it says what helps", lambda: "a row filter of the publication fails at a row" in evictd.log_text())
    assert not evictd.is_ready()
    postgres.execute("alter publication evictd set table shares")  # "publish the tables without one"
    eventually("the mend is seen", lambda: "no longer: publication 'evictd' sends only rows" in evictd.log_text())
    advice = re.search(r"SELECT pg_drop_replication_slot\('evictd'\)", evictd.log_text()).group(0)

    def followed():
        try:
            postgres.execute(advice)
        except psycopg2.errors.ObjectInUse:  # in the middle of a try
            return False
        return True

    eventually("the advice is followed", followed, every=0.2)
    evictd.wait_until_ready(60)
    assert not cache.exists("share:1")
    cache.set("share:1", "old")
    postgres.execute("update shares set of = 7")
    scenarios.gone(cache, "share:1")


def test_an_unchanged_large_value_never_becomes_a_key(postgres, cache, make_evictd):
    postgres.execute("create table pages (id integer primary key, body text not null, views integer not null)")
    postgres.execute("alter table pages alter column body set storage external")
    postgres.execute("insert into pages values (1, repeat('x', 12000), 0), (2, repeat('y', 12000), 0)")
    digest = postgres.value("select md5(body) from pages where id = 1")
    evictd = make_evictd(rules="- table: public.pages\n  keys: ['page:{id}', 'page:body:{body|md5}']\n").start()
    cache.set("page:1", "old")
    cache.set(f"page:body:{digest}", "old")
    # TOASTed and unchanged: its value is not sent.
    postgres.execute("update pages set views = 1 where id = 1")
    scenarios.gone(cache, "page:1", f"page:body:{digest}")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert evictd.metrics().sum("evictd_unmappable_changes_total", reason="unchanged_toast") >= 1


@pytest.mark.parametrize("on_missing", ["purge", "stop"])
def test_a_strange_value_touches_the_keys_of_its_own_row_only(postgres, cache, make_evictd, on_missing):
    postgres.execute("create table notes (id integer primary key, title text, day date); alter table notes replica identity full")
    evictd = make_evictd(rules=f"""
- table: public.notes
  on_missing: {on_missing}
  keys: ["id:{{id}}", "title:{{title}}", "url:{{title|urlencode}}", "path:{{title.a}}", "day:{{day|date('%Y')}}"]
""").start()
    others = [f"{name}:other" for name in ("id", "title", "url", "path", "day")]
    long_title = "x" * 60_000
    cache.mset({key: "another row's" for key in others})
    cache.set(f"title:{long_title}", "old")
    strange = ["", " ", "*", "title:*", "[a-z]", "{", "\x01\x1b[2J\r\n", "\u202e", "x" * 1100, long_title, "x" * 70_000, "é" * 30_000,
               "9" * 10_000, '{"a":1}x', '{"a":"' + "x" * 70_000 + '"}']
    days = ["infinity", "-infinity", "0044-03-15 BC", "12345-01-01"]
    connection = postgres.connect()
    with connection.cursor() as cursor:
        for number, title in enumerate(strange):
            cursor.execute("insert into notes values (%s, %s, %s)", (number, title, days[number % len(days)]))
            cursor.execute("update notes set title = title || 'x' where id = %s", (number,))
            cursor.execute("delete from notes where id = %s", (number,))
        cursor.execute("insert into notes values (99, 'last', 'today')")
        cache.set("title:last", "old")
        cursor.execute("delete from notes where id = 99")
    connection.close()
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert cache.exists(*others) == len(others), "other rows' keys were deleted"
    scenarios.gone(cache, f"title:{long_title}", "title:last")
    metrics = evictd.metrics()
    assert metrics.sum("evictd_unmappable_changes_total", reason="too_long") >= 3
    assert metrics.sum("evictd_unmappable_changes_total", reason="bad_value") >= len(strange)
    assert metrics.sum("evictd_unmappable_changes_total") == metrics.sum(
        "evictd_unmappable_changes_total", reason="too_long") + metrics.sum("evictd_unmappable_changes_total", reason="bad_value")
    evictd.stop()


def test_a_large_transaction_passes_in_bounded_memory(make_postgres, make_redis, folder):
    """With a wal_sender_timeout far below the time it takes: keepalives are answered meanwhile (G8)."""
    from harness import daemon

    rows = 2_000_000 if soak() else 300_000
    postgres = make_postgres({"wal_sender_timeout": "3s", "max_wal_size": "4GB"})
    redis = make_redis()
    cache = redis.client()
    shop.plant_sentinels(cache)
    postgres.execute(f"create table items (id integer primary key, v integer not null); "
                     f"insert into items select i, 0 from generate_series(1, {rows}) i")
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(), redis.url(),
                           "- table: public.items\n  keys: ['item:{id}']\n").start()
    for number in (1, rows // 2, rows):
        cache.set(f"item:{number}", "old")
    postgres.execute("update items set v = 1")
    scenarios.gone(cache, "item:1", f"item:{rows // 2}", f"item:{rows}", seconds=240)
    oracle.wait_until_acknowledged(postgres, "evictd", 120)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_changes_total", table="public.items", op="update") == rows
    assert metrics.sum("evictd_reconnects_total") == 0, "a keepalive was not answered in time"
    assert evictd.has_used_little(64), f"{evictd.memory_bytes('VmHWM') >> 20} MiB at most"
    evictd.stop()


def test_a_redis_out_of_reach_does_not_fill_the_memory(postgres, redis, cache, make_evictd):
    """A transaction of some 100 MiB of keys arrives while nothing can be applied: evictd stops reading (G8)."""
    rows, keys = 100_000, 8
    postgres.execute(f"create table items (id integer primary key, v integer not null); "
                     f"insert into items select i, 0 from generate_series(1, {rows}) i")
    templates = ", ".join(f"'{'x' * 120}:{number}:{{id}}'" for number in range(keys))
    proxy = Proxy(redis.port)
    evictd = make_evictd(rules=f"- table: public.items\n  keys: [{templates}]\n",
                         redis_url=redis.url(port=proxy.port)).start()
    with scenarios.RedisOutOfReach(proxy):
        eventually("evictd notices that Redis is gone", lambda: not evictd.is_ready())
        postgres.execute("update items set v = 1")
        sent = []

        def no_longer_reads():
            assert evictd.metrics().get("evictd_inflight_bytes") > 2**20
            sent.append(postgres.value("select sent_lsn::text from pg_stat_replication"))
            assert len(sent) > 5 and len(set(sent[-5:])) == 1, sent[-1]
            return True

        eventually("evictd no longer reads", no_longer_reads, 60, every=0.5)
        assert evictd.has_used_little(64), f"{evictd.memory_bytes('VmHWM') >> 20} MiB at most"
    last = f"{'x' * 120}:{keys - 1}:{rows}"
    cache.set(last, "old")
    scenarios.gone(cache, last, seconds=120)
    oracle.wait_until_acknowledged(postgres, "evictd", 120)
    assert evictd.has_used_little(64), f"{evictd.memory_bytes('VmHWM') >> 20} MiB at most"
    proxy.stop()


def test_prepared_transactions_count_when_they_commit(postgres, cache, make_evictd):
    make_evictd().start()
    scenarios.cached(cache, postgres, "product:1", "product:2", "product:3")
    for name, product in (("commits", 1), ("rolls_back", 2)):
        connection = postgres.connect()
        with connection.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("update products set price_cents = 1 where id = %s", (product,))
            cursor.execute(f"prepare transaction '{name}'")
        connection.close()
    # A later commit that has been applied shows that the prepared ones were passed over, not still on their way.
    postgres.execute("update products set price_cents = 1 where id = 3")
    scenarios.gone(cache, "product:3")
    assert cache.exists("product:1", "product:2") == 2
    postgres.execute("commit prepared 'commits'")
    scenarios.gone(cache, "product:1")
    postgres.execute("rollback prepared 'rolls_back'")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert cache.exists("product:2"), "a rolled back change is no change"


def test_settings_of_the_role_do_not_change_keys(postgres, cache, make_evictd):
    postgres.execute("create table visits (seen_on date, at timestamptz, ratio float8, gap interval, raw bytea, "
                     "primary key (seen_on, at))")
    for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Kolkata'", "intervalstyle = 'iso_8601'",
                    "extra_float_digits = '-5'", "bytea_output = 'escape'"):
        postgres.execute(f"alter role postgres set {setting}")
    make_evictd(rules="- table: public.visits\n  keys: ['day:{seen_on}', 'at:{at}', 'ratio:{ratio}', 'gap:{gap}', "
                      "'raw:{raw}']\n").start()
    keys = ["day:2024-02-03", "at:2024-02-03T04:05:06.5Z", "ratio:0.30000000000000004", "gap:1 day 02:03:04", "raw:00ff"]
    for key in keys:
        cache.set(key, "old")
    postgres.execute("insert into visits values ('2024-02-03', '2024-02-03 04:05:06.5Z', 0.1::float8 + 0.2, "
                     "'1 day 2 hours 3 minutes 4 seconds', '\\x00ff')")
    scenarios.gone(cache, *keys)


@pytest.mark.parametrize("encoding, accent", [("WIN1252", "chr(233)"), ("SQL_ASCII", "chr(195) || chr(169)")])
@pytest.mark.parametrize("unreadable", ["insert into notes values (1, chr(129))", "select pg_logical_emit_message(false, chr(129), '')"],
                         ids=["row", "message"])
def test_a_text_that_cannot_be_sent_as_utf8_does_not_stop_the_stream(postgres, cache, make_evictd, encoding, accent, unreadable):
    """The server refuses to send it, at the same place each time. No reader in UTF-8 can have read it either."""
    postgres.execute(f"create database western template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'", database="postgres")
    postgres.execute("create table items (id integer primary key, name text not null, v integer); alter table items replica identity full; "
                     f"create table notes (id integer primary key, body text); insert into items values (1, 'caf' || {accent}, 0), (2, 'tea', 0)",
                     database="western")
    evictd = make_evictd(postgres_url=postgres.url("western"),
                         rules="- table: items\n  keys: ['item:{id}', 'name:{name}']\n- table: notes\n  keys: ['note:{id}']\n").start()
    for key in ("item:1", "item:2", "name:café", "name:tea", "note:1"):
        cache.set(key, "old")
    postgres.execute(f"{unreadable}; update items set v = 1 where id = 1", database="western")
    # By its pattern: what the name was is not known.
    scenarios.gone(cache, "item:1", "name:café")
    if "notes" in unreadable:
        scenarios.gone(cache, "note:1")
    assert cache.exists("item:2")
    oracle.wait_until_acknowledged(postgres, "evictd", database="western")
    # Behind it, everything is as it was.
    eventually("texts are read again", lambda: "is behind the stream" in evictd.log_text())
    evictd.wait_until_ready()
    cache.mset({"name:café": "old", "name:tea": "old"})
    postgres.execute("update items set v = 2 where id = 1", database="western")
    scenarios.gone(cache, "name:café")
    oracle.wait_until_acknowledged(postgres, "evictd", database="western")
    assert cache.exists("name:tea")
    assert encoding != "SQL_ASCII" or "set postgres.client_encoding: SQL_ASCII" in evictd.log_text()


def test_partitions_answer_to_the_rule_of_their_root(postgres, cache, make_evictd):
    postgres.execute("create table events (id integer, region text, v integer, primary key (id, region)) "
                     "partition by list (region); "
                     "create table events_eu partition of events for values in ('eu'); "
                     "create table events_us partition of events for values in ('us'); "
                     "insert into events values (1, 'eu', 0), (2, 'us', 0), (3, 'eu', 0)")
    evictd = make_evictd(rules="- table: public.events\n  keys: ['event:{id}']\n").start()
    for number in (1, 2, 3):
        cache.set(f"event:{number}", "old")
    postgres.execute("update events set v = 1 where id = 1")
    scenarios.gone(cache, "event:1")
    postgres.execute("update events set region = 'us' where id = 3")
    scenarios.gone(cache, "event:3")
    assert cache.exists("event:2")
    postgres.execute("create table events_asia partition of events for values in ('asia'); "
                     "insert into events values (4, 'asia', 0)")
    cache.set("event:4", "old")
    postgres.execute("update events set v = 1 where id = 4")
    scenarios.gone(cache, "event:4", seconds=60)
    postgres.execute("truncate events")
    scenarios.gone(cache, "event:2")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert evictd.is_ready()


def test_random_transactions_race_aggressive_readers(postgres, redis, cache, make_evictd, seed):
    """fsync on, several writers, readers that refill as fast as they can: the window between the stream and
    visibility is met many times."""
    evictd = make_evictd().start()
    running = scenarios.under_load(postgres, redis, seed, products=5, categories=2, writers=4, readers=3,
                                   writer_pause=0, reader_pause=0, actions=["price", "slug", "review", "order", "setting"])
    target = running.writes + (100_000 if soak() else 2000)
    eventually("the writers write on", lambda: running.writes >= target, 1200)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=5)
