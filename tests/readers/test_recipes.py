"""The recipes and packages of docs/recipes/, run for real: each language through the same scenarios."""

import json
import os
import threading
import time

import languages
import pytest
from harness import oracle
from harness.servers import Redis
from harness.waiting import eventually

# A token that claims to have seen every transaction there will be.
BROKEN_TOKEN = "'4503599627370496'"


# ctest runs one language at a time.
@pytest.fixture(scope="module", params=os.environ.get("EVICTD_RECIPES", ",".join([*languages.LANGUAGES, *languages.PACKAGES])).split(","))
def language(request):
    return languages.language_or_skip(request.param)


@pytest.fixture(scope="module")
def recipe(language, parts_folder):
    return languages.Built(language, f"{parts_folder}/{language.name}")


@pytest.fixture
def start(database, redis_server):
    """start(built): a running driver."""
    made = []

    def begin(built, redis=None):
        made.append(languages.Driver(built, database, redis or redis_server))
        return made[-1]

    yield begin
    for driver in made:
        driver.stop()


@pytest.fixture
def cache(evictd, redis_server):
    return redis_server.client(decode_responses=True)


def row(database, product):
    return database.value("select coalesce((select row_to_json(p)::text from products p where id = %s), '')", (product,))


def set_price(database, product, price):
    database.execute("update products set price_cents = %s where id = %s", (price, product))


def price(value):
    return json.loads(value)["price_cents"]


def get(cache, key, *options):
    return cache.execute_command("FCALL", "evictd_get", 2, key, "evictd:{" + key + "}", *options)


def test_a_miss_fills_and_an_update_is_seen(recipe, start, database, cache, evictd, product):
    driver, key = start(recipe), f"product:{product}"
    for number in range(20):
        value = driver.read(key)
        assert value == row(database, product)
        assert cache.get(key) == value, "the fill was refused"
        assert driver.read(key) == value
        set_price(database, product, 1_000_000 + number)
        eventually(f"{key} is deleted", lambda: not cache.exists(key))
    oracle.converge(database, evictd)
    assert driver.read(key) == row(database, product)


def test_a_key_with_a_hash_tag_of_its_own_is_cached(language, recipe, start, database, cache, evictd, product):  # pylint: disable=too-many-arguments
    if language.name == "node-prefix":
        pytest.skip("all its keys begin with the client's prefix")
    driver, key = start(recipe), f"{{product}}:{product}"
    assert driver.read(key) == row(database, product)
    assert cache.get(key) == row(database, product), "the fill was refused"
    set_price(database, product, 2_000_000)
    eventually(f"{key} is deleted", lambda: not cache.exists(key))


def test_a_row_that_does_not_exist_is_cached_too(recipe, start, database, cache, product):
    driver, number = start(recipe), 1000 + product
    key = f"product:{number}"
    assert driver.read(key) == ""
    assert cache.get(key) == ""
    assert driver.read(key) == ""
    database.execute("insert into products values (%s, %s, 'new', 5, 1)", (number, f"new-{number}"))
    eventually(f"{key} is deleted", lambda: not cache.exists(key))
    assert price(driver.read(key)) == 5


def test_many_readers_and_writers_end_with_a_true_cache(recipe, start, database, cache, evictd, product):
    """Readers of several processes ask for what writers change. No value goes backwards, and in the end each is its
    row's."""
    keys = {number: f"product:{number}" for number in range(product, product + 3)}
    drivers = [start(recipe) for _ in range(3)]
    stop = threading.Event()
    written = dict.fromkeys(keys, 0)

    def write(number):
        while not stop.is_set():
            written[number] += 1
            set_price(database, number, 10_000_000 + written[number])

    writers = [threading.Thread(target=write, args=(number,)) for number in keys]
    for writer in writers:
        writer.start()
    try:
        deadline = time.monotonic() + 60
        rounds = 0
        while (rounds < 50 or min(written.values()) <= 10) and time.monotonic() < deadline:
            rounds += 1
            for key in keys.values():
                for driver in drivers:
                    driver.ask(key)
                for driver in drivers:
                    driver.answer()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    oracle.converge(database, evictd)
    assert min(written.values()) > 10
    for number, key in keys.items():
        cached = cache.get(key)
        assert cached in (None, row(database, number)), "the cache does not tell the truth"
        for driver in drivers:
            assert driver.read(key) == row(database, number)


def refilled_while_the_commit_is_invisible(driver, database, cache, evictd, product):
    """The event is here, the tombstone is written, and every reader still sees the old row: no fill of it may stay."""
    key = f"product:{product}"
    old = driver.read(key)
    assert cache.get(key) == old
    database.execute("alter system set synchronous_standby_names = 'nobody'")
    database.execute("select pg_reload_conf()")
    eventually("commits wait for a standby", lambda: database.value("show synchronous_standby_names") == "nobody")
    writer = threading.Thread(target=set_price, args=(database, product, 77_000_000 + product), daemon=True)
    writer.start()
    try:
        eventually(f"{key} is deleted", lambda: not cache.exists(key))
        assert driver.read(key) == old, "the old row is what the database says"
        refilled = cache.get(key)
    finally:
        database.execute("alter system reset synchronous_standby_names")
        database.execute("select pg_reload_conf()")
    writer.join(30)
    assert not writer.is_alive()
    oracle.converge(database, evictd)
    assert driver.read(key) == row(database, product), f"stale for good, as filled before: {refilled}"
    assert refilled is None


def test_an_old_row_is_not_cached_while_the_new_one_is_invisible(recipe, start, database, cache, evictd, product):
    refilled_while_the_commit_is_invisible(start(recipe), database, cache, evictd, product)


def test_a_recipe_with_a_broken_token_is_caught(language, parts_folder, start, database, cache, evictd, product):
    broken = languages.Built(language, f"{parts_folder}/{language.name}-broken", token=BROKEN_TOKEN)
    with pytest.raises(AssertionError, match="stale for good"):
        refilled_while_the_commit_is_invisible(start(broken), database, cache, evictd, product)


def test_a_busy_key_is_read_from_the_database_in_the_end(recipe, start, database, cache, product):
    driver, key = start(recipe), f"product:{product}"
    assert get(cache, key, "LEASE", "60000")[0] == "miss"
    assert driver.read(key) == row(database, product)
    assert not cache.exists(key), "somebody else holds the lease"
    assert get(cache, key)[0] == "busy"


def test_a_busy_key_is_waited_for(recipe, start, cache, product):
    """Whoever holds the lease fills while the recipe waits: it takes that value, and does not ask the database."""
    driver, key = start(recipe), f"product:{product}"
    lease = get(cache, key, "LEASE", "60000")[2]
    driver.ask(key)
    asked = cache.execute_command("FCALL", "evictd_stats", 0)
    eventually("the recipe was told to wait", lambda: cache.execute_command("FCALL", "evictd_stats", 0) != asked)
    cache.execute_command("FCALL", "evictd_fill", 2, key, "evictd:{" + key + "}", f"lease:{lease}", 60000, "theirs")
    assert driver.answer() == "theirs"


def test_a_stale_value_is_served_while_another_reader_refreshes_it(recipe, start, database, cache, product):
    driver, key = start(recipe), f"product:{product}"
    cache.set(key, "stale")
    # A tombstone that kept its value (daemon/sinks/redis/lua/marker.lua), and asks for nothing: any fill may follow.
    cache.set("evictd:{" + key + "}", "t e/1 ^0 k")
    assert get(cache, key, "LEASE", "60000")[0] == "stale"
    assert driver.read(key) == "stale"
    cache.set("evictd:{" + key + "}", "t e/1 ^0 k")
    assert driver.read(key) == row(database, product), "nobody holds the lease: the recipe refreshes it"
    assert cache.get(key) == row(database, product)


def test_without_redis_the_database_answers(recipe, start, database, evictd, parts_folder, product):
    own = Redis(f"{parts_folder}/redis-{product}").start()
    driver, key = start(recipe, own), f"product:{product}"
    evictd_library = evictd.command("lua").stdout
    own.client().execute_command("FUNCTION", "LOAD", evictd_library)
    assert driver.read(key) == row(database, product)
    assert own.client().exists(key)
    own.stop()
    assert driver.read(key) == row(database, product)
    assert driver.read(key) == row(database, product)
