"""What docs/recipes/python promises beside the scenarios of test_recipes.py, case by case, in this process."""

import asyncio
import datetime
import sys
import uuid

import languages
import psycopg2
import pytest
import redis
import redis.asyncio
from harness import oracle
from harness.servers import Redis
from standby import Standby

sys.path.insert(0, f"{languages.ROOT}/docs/recipes/python")
import evictd_reader as reader  # noqa: E402  pylint: disable=wrong-import-position
from evictd_reader import names  # noqa: E402  pylint: disable=wrong-import-position

SEES_ALL = "4000000:4000000:"
PRODUCT = "select name || '@' || price_cents from products where id = %s"


class Source:
    """A snapshot that needs no database, and counts how often it was asked for."""

    def __init__(self, token=SEES_ALL):
        self.answer = token
        self.asked = 0

    def may_have_written(self, arguments):
        return False

    def token(self, arguments):
        self.asked += 1
        return self.answer

    def still_reading(self, arguments):
        return True


@pytest.fixture
def client(evictd, redis_server):
    return redis_server.client()


@pytest.fixture
def connection(database):
    one = psycopg2.connect(database.url())
    yield one
    one.close()


def cache_of(client, **options):
    return reader.Cache(client, options.pop("snapshot", None) or Source(), **options)


def stored_once(cache, key, value, **options):
    """Caches `value` under `key` and reads it again -> what comes back the second time, from the cache."""
    calls = []

    @cache.cached(key, **options)
    def function():
        calls.append(1)
        return value

    first, second = function(), function()
    assert len(calls) == 1, f"it was not cached: {cache.counts}"
    assert first == second
    return second


# Names.


@pytest.mark.parametrize("key", ["plain", "{user:7}:cart", "user:{7}", "a{}b", "a{}{b}", "{", "a}b{c", "schlüssel:ß", "with space", "a\nb"])
def test_the_marker_is_the_one_that_redis_knows(client, key):
    cache = cache_of(client)
    assert stored_once(cache, lambda: f"product:{key}", "v", tags=[lambda: key, "{{braces}}"]) == "v"
    assert client.get(f"product:{key}") == b'"v"'
    assert client.exists(names.marker_of(f"product:{key}".encode()))


def test_keys_may_be_bytes(client):
    key = b"product:\xff\x00"
    assert stored_once(cache_of(client), lambda: key, 1) == 1
    assert client.get(key) == b"1"


@pytest.mark.parametrize("value, text", [(7, "7"), ("a b", "a b"), (True, "true"), (False, "false"),
                                         (datetime.date(2024, 2, 3), "2024-02-03"),
                                         (uuid.UUID("A0EEBC999C0B4EF8BB6D6BB9BD380A11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")])
def test_a_placeholder_has_the_text_that_the_rules_give_it(value, text):
    assert names.render("k:{v}:{{x}}", {"v": value}) == f"k:{text}:{{x}}".encode()


@pytest.mark.parametrize("value", [1.5, b"x", datetime.datetime(2024, 2, 3), [1]])
def test_a_placeholder_of_a_type_with_another_text_is_refused(value):
    with pytest.raises(reader.WrongName, match="expected a text, integer, boolean, UUID or date in a key or tag, got"):
        names.render("k:{v}", {"v": value})


@pytest.mark.parametrize("key", ["evictd:{x}", "tag:x", ""])
def test_a_key_that_is_none_of_a_value_is_refused(client, key):
    with pytest.raises(reader.WrongName, match="expected the key of a cached value"):
        cache_of(client).cached(lambda: key)(lambda: 1)()


def test_a_null_in_a_key_caches_nothing_and_in_a_tag_leaves_it_out(client):
    cache = cache_of(client)
    calls = []

    @cache.cached("product:null:{a}", tags=["of:{b}"])
    def function(a, b):
        calls.append(1)
        return 1

    assert [function(None, 1), function(None, 1)] == [1, 1]
    assert len(calls) == 2
    assert function("x", None) == 1
    assert client.exists("product:null:x") and not client.exists("tag:of:None")


# Values.


@pytest.mark.parametrize("decode", [False, True])
def test_any_bytes_come_back_whatever_the_client_decodes(redis_server, evictd, decode):
    client = redis_server.client(decode_responses=decode)
    value = bytes(range(256)) * 3
    assert stored_once(cache_of(client), f"product:bytes:{decode}", value, codec=reader.BYTES) == value
    assert stored_once(cache_of(client), f"product:lazy:{decode}", value, codec=reader.BYTES, lazy=True, tags=["a\nb", "c"]) == value
    assert redis_server.client().get(f"product:bytes:{decode}") == value


def test_all_callers_see_what_the_cache_would_give(client):
    assert stored_once(cache_of(client), "product:tuple", (1, None)) == [1, None]
    assert stored_once(cache_of(client), "product:none", None) is None


def test_what_cannot_be_read_is_made_anew(client):
    cache = cache_of(client)
    client.set("product:old", b"\xff not json")
    assert stored_once(cache, "product:old", {"a": 1}) == {"a": 1}
    client.set("product:old:lazy", b"no line of tags")
    assert stored_once(cache, "product:old:lazy", {"a": 1}, lazy=True) == {"a": 1}
    assert cache.counts["unreadable_values"] == 2


def test_too_many_tags_are_not_cached(client):
    cache = cache_of(client)
    cache.cached("product:many", tags=[f"t{i}" for i in range(501)])(lambda: 1)()
    assert not client.exists("product:many")
    assert cache.counts["too_many_tags"] == 1


# What can only be a mistake.


class Prefixing(redis.Redis):
    """As a client that puts a prefix before every key of every command."""

    def execute_command(self, *words, **options):
        if words[0] == "FCALL":
            count = words[2]
            words = [*words[:3], *(b"shop:" + word for word in words[3:3 + count]), *words[3 + count:]]
        return super().execute_command(*words, **options)


def test_a_client_that_prefixes_markers_is_an_error_and_fills_nothing(redis_server, evictd):
    cache = cache_of(Prefixing(port=redis_server.port))
    with pytest.raises(reader.WrongCall, match="expected 'evictd:{shop:product:1}' as the marker of 'shop:product:1'"):
        cache.cached("product:1")(lambda: "never")()
    assert not redis_server.client().exists("shop:product:1", "product:1")


def test_a_prefix_stands_before_the_key_and_inside_the_marker(client):
    assert stored_once(cache_of(client, prefix="shop:"), "product:1", "v") == "v"
    assert client.get("shop:product:1") == b'"v"'
    assert client.exists("evictd:{shop:product:1}")


def test_mistakes_of_the_program_are_told_when_it_starts(client):
    cache = cache_of(client)
    with pytest.raises(TypeError, match="expected a list of tags"):
        cache.cached("k", tags="a:{b}")
    with pytest.raises(ValueError, match="expected a ttl of at least"):
        cache.cached("k", ttl=0)
    with pytest.raises(ValueError, match="expected a jitter of 0 to 100"):
        cache.cached("k", jitter=101)
    with pytest.raises(TypeError, match="unexpected keyword"):
        cache.cached("k", lease_ms=1)

    async def function():
        pass

    with pytest.raises(TypeError, match="Cache is for ordinary functions"):
        cache.cached("k")(function)
    with pytest.raises(TypeError, match="AsyncCache is for async functions"):
        reader.AsyncCache(client, Source()).cached("k")(lambda: 1)
    for wrong in ({"key": "product:{x.id}"}, {"key": "product", "tags": ["{id}", "{x}"]}):
        with pytest.raises(reader.WrongName, match="'.*{x.*}' names 'x', and the function has id"):
            cache.cached(**wrong)(lambda id: 1)
    with pytest.raises(TypeError, match="expected the name of an argument"):
        reader.psycopg(7)
    with pytest.raises(TypeError, match="taken on the argument 'session', and the function has product_id"):
        cache_of(client, snapshot=reader.psycopg("session")).cached("product:no:session")(lambda product_id: 1)(1)


def test_without_the_functions_the_database_answers(parts_folder, evictd):
    bare = Redis(f"{parts_folder}/bare").start()
    cache = cache_of(bare.client())
    assert [cache.cached("product:1")(lambda: 7)() for _ in range(2)] == [7, 7]
    assert cache.counts == {"redis_errors": 2}
    bare.stop()


# What a value has seen.


def product_reader(client, connection, product):
    cache = cache_of(client, snapshot=reader.psycopg("connection"))
    calls = []

    @cache.cached("product:{product_id}", codec=reader.TEXT)
    def read(connection, product_id):
        calls.append(1)
        with connection.cursor() as cursor:
            cursor.execute(PRODUCT, (product_id,))
            return cursor.fetchone()[0]

    read.cache, read.calls = cache, calls
    return read


def test_what_a_transaction_wrote_itself_is_not_cached_and_nobody_waits(client, connection, product):
    read = product_reader(client, connection, product)
    with connection.cursor() as cursor:
        cursor.execute("update products set price_cents = 123456 where id = %s", (product,))
    assert read(connection, product).endswith("@123456")
    assert not client.exists(f"product:{product}"), "it may still be rolled back"
    reply = client.execute_command("FCALL", "evictd_get", 2, f"product:{product}", f"evictd:{{product:{product}}}", "LEASE", 10)
    assert reply[0] == b"miss", "no lease was taken for nothing"
    connection.rollback()


def test_a_function_that_writes_is_not_cached(client, connection, product):
    cache = cache_of(client, snapshot=reader.psycopg("connection"))

    @cache.cached("product:{product_id}")
    def read(connection, product_id):
        with connection.cursor() as cursor:
            cursor.execute("update products set price_cents = 654321 where id = %s returning price_cents", (product_id,))
            return cursor.fetchone()[0]

    assert read(connection, product) == 654321
    assert not client.exists(f"product:{product}")
    assert cache.counts["not_filled_after_a_write"] == 1
    connection.rollback()


def test_an_old_repeatable_read_transaction_claims_no_more_than_it_sees(client, connection, database, evictd, product):
    connection.set_session(isolation_level="REPEATABLE READ")
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    database.execute("update products set price_cents = 777777 where id = %s", (product,))
    oracle.converge(database, evictd)
    read = product_reader(client, connection, product)
    assert not read(connection, product).endswith("@777777"), "its snapshot is older"
    assert not client.exists(f"product:{product}")
    assert read.cache.counts["refused"] == 1
    connection.rollback()
    assert read(connection, product).endswith("@777777")
    assert client.get(f"product:{product}").endswith(b"@777777")


def test_a_connection_is_left_as_it_was_found(client, connection, product):
    read = product_reader(client, connection, product)
    snapshot = reader.psycopg("connection")
    assert snapshot.token({"connection": connection})
    assert connection.info.transaction_status == 0
    read(connection, product)
    assert connection.info.transaction_status == 2, "the function's own SELECT began it"
    assert len(read.calls) == 1


def test_on_a_standby_the_token_is_its_xmin(database, parts_folder, client, product):
    standby = Standby(f"{parts_folder}/standby", database, 0).start()
    connection = psycopg2.connect(standby.url())
    assert reader.psycopg("connection").token({"connection": connection}).isdigit()
    read = product_reader(client, connection, product)
    assert read(connection, product) == read(connection, product)
    assert client.exists(f"product:{product}") and len(read.calls) == 1
    connection.close()
    standby.stop("immediate")


# Values made from other cached values, and tags told by the function.


def test_a_value_is_never_made_from_another_one_in_the_cache(client):
    cache = cache_of(client)
    inner_calls = []

    @cache.cached("product:inner", tags=["of:inner"])
    def inner():
        inner_calls.append(1)
        reader.uses("variants", 17)
        return len(inner_calls)

    @cache.cached("product:outer")
    def outer():
        return inner()

    assert inner() == 1
    assert inner() == 1, "by itself it answers from the cache"
    assert outer() == 2, "what the cache holds may be older than the outer snapshot"
    assert outer() == 2
    for tag in ("of:inner", "row:variants:17"):
        assert client.smembers(f"tag:{tag}") == {b"product:inner", b"product:outer"}


def test_row_tags_are_spelled_by_one_function(client):
    assert reader.row_tag("variants", 17) == "row:variants:17"
    assert reader.row_tag("reviews", product_id=7) == "row:reviews:product_id=7"
    for wrong in ((), (1, {"a": 1})):
        with pytest.raises(TypeError, match="expected a row's key or one column=value"):
            reader.row_tag("t", *wrong[:1], **(wrong[1] if len(wrong) > 1 else {}))
    reader.uses("variants", 17)  # outside of a cached function: nothing


def test_tasks_tell_their_rows_to_the_function_that_waits_for_them(redis_server, evictd):
    async def main():
        client = redis.asyncio.Redis(port=redis_server.port)
        cache = reader.AsyncCache(client, Source())

        async def part(number):
            await asyncio.sleep(0)
            reader.uses("parts", number)

        @cache.cached("product:tasks:{which}")
        async def function(which):
            await asyncio.gather(*(part(10 * which + i) for i in range(3)))
            return which

        assert await asyncio.gather(function(1), function(2)) == [1, 2]
        await client.close()

    asyncio.run(main())
    client = redis_server.client()
    for which in (1, 2):
        for i in range(3):
            assert client.smembers(f"tag:row:parts:{10 * which + i}") == {f"product:tasks:{which}".encode()}


def test_a_lazy_value_is_asked_for_the_tags_that_it_has(client):
    """Another process does not know them until it has seen the value."""
    tags = ["row:a:1", "row:b:2"]
    cache = cache_of(client, lazy=True)
    value = ["first"]

    def function():
        reader.depends_on(*tags)
        return value[0]

    assert cache.cached("product:lazy")(function)() == "first"
    value[0] = "second"
    for count in range(2):
        other = cache_of(client, lazy=True)
        assert other.cached("product:lazy")(function)() == "first"
        assert other.counts == {"hits": 1}
    client.set("evictd:{tag:row:b:2}", "t e/1 4000001")  # as an invalidation that the value has not seen
    other = cache_of(client, snapshot=Source("4000005:4000005:"), lazy=True)
    assert other.cached("product:lazy")(function)() == "second"
    assert other.cached("product:lazy")(function)() == "second"
    assert other.counts == {"stale": 1, "fills": 1, "hits": 1}


# A cluster's client: one slot for each call. test_cluster_packages.py asks a real one.


class FakeCluster:
    """Its name tells the cache. Answers by function, and keeps what was called."""

    def __init__(self, **answers):
        self.answers = {"evictd_get": [b"miss", None, b"lease", None], "evictd_join": 1, "evictd_fill": 1, "evictd_seen": 1, **answers}
        self.called = []

    def execute_command(self, *words, **_):
        self.called.append(words[1:])
        return self.answers[words[1]]


@pytest.mark.parametrize("lazy, keys", [(False, [b"tag:t", b"evictd:{tag:t}"]), (True, [b"evictd:{tag:t}"])])
def test_on_a_cluster_tags_are_joined_before_the_fill_each_in_its_slot(lazy, keys):
    client = FakeCluster()
    cache = cache_of(client, lazy=lazy)
    assert cache.cached("product:1", tags=["t"], ttl=5)(lambda: 7)() == 7
    get, join, fill = client.called
    assert get == ("evictd_get", 2, b"product:1", b"evictd:{product:1}", "LEASE", 2000, *(["DATED", 1] if lazy else []))
    assert join == ("evictd_join", len(keys), *keys, b"product:1", 5000, SEES_ALL)
    assert fill[:4] == ("evictd_fill", 2, b"product:1", b"evictd:{product:1}")


def test_on_a_cluster_nothing_is_filled_under_a_tag_that_was_invalidated():
    client = FakeCluster(evictd_join=0)
    cache = cache_of(client)
    assert cache.cached("product:1", tags=["t"])(lambda: 7)() == 7
    assert [words[0] for words in client.called] == ["evictd_get", "evictd_join"]
    assert cache.counts == {"misses": 1, "refused": 1}


@pytest.mark.parametrize("seen, version, value", [(1, b"1:2:", 1), (0, b"1:2:", 2), (1, b"-", 2), (1, None, 2)])
def test_on_a_cluster_a_lazy_value_is_held_against_each_of_its_tags(seen, version, value):
    client = FakeCluster(evictd_get=[b"fresh", b'["t"]\n1', None, version], evictd_seen=seen)
    assert cache_of(client, lazy=True).cached("product:1")(lambda: 2)() == value


# The libraries that are installed with the package.


def test_with_each_library(evictd, database, redis_server, parts_folder):
    languages.run_cases("python-sqlalchemy", "cases.py", database, redis_server, parts_folder)
