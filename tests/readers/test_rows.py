"""Row tags: a page made from rows of three tables, each told by the reader that made it (docs/readers.md, "What a value was made
from"), with one line per table in the rules."""

import os
import threading

import languages
import pytest
from harness import daemon, oracle, shop
from harness.waiting import eventually
from test_recipes import BROKEN_TOKEN

RULES = """
defaults: {{fill: checked}}
rules:
  - {{table: public.categories, tags: ["row:categories:{{id}}"], tags_mode: {mode}}}
  - {{table: public.products, tags: ["row:products:{{id}}", "row:products:category_id={{category_id}}"], tags_mode: {mode}}}
  - {{table: public.reviews, tags: ["row:reviews:product_id={{product_id}}"], tags_mode: {mode}}}
"""
CATEGORIES = range(1, 6)  # deploy/shop.sql
WRITES_MIN, ROUNDS_MIN = 200, 40


# The short recipes name no tag in a get, so theirs have members. Of them all, one scenario runs by default: the one that a wrong token loses.
SHORT_RECIPES = "-rows" in os.environ.get("EVICTD_RECIPES", "")
long_for_recipes = pytest.mark.skipif(SHORT_RECIPES and os.environ.get("EVICTD_SOAK") != "1", reason="with --soak")


@pytest.fixture(scope="module", params=["members"] if SHORT_RECIPES else ["members", "lazy"])
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def evictd(mode, parts_folder, database, redis_server):
    redis_server.client().flushall()
    one = daemon.Evictd(f"{parts_folder}/{mode}", database.url(), redis_server.url(), RULES.format(mode=mode), slot=f"rows_{mode}",
                        publication=f"rows_{mode}")
    one.start()
    yield one
    if one.is_running():
        one.kill()
    print(f"--- the end of {one.log}\n{one.log_tail()}")


# ctest runs one at a time.
@pytest.fixture(scope="module", params=os.environ.get("EVICTD_RECIPES", "python-psycopg,node-pool").split(","))
def language(request):
    return languages.language_or_skip(request.param)


@pytest.fixture(scope="module")
def package(language, mode, parts_folder):
    return languages.Built(language, f"{parts_folder}/{mode}-{language.name}")


@pytest.fixture
def start(database, redis_server, mode):
    made = []

    def begin(built, **more):
        if mode == "lazy":
            more["LAZY"] = "1"
        made.append(languages.Driver(built, database, redis_server, more))
        return made[-1]

    yield begin
    for driver in made:
        driver.stop()


def page(database, category):
    """What the readers' three SELECTs come to, by one."""
    return database.value(
        "select concat_ws('|', (select name from categories where id = %(id)s),"
        " (select coalesce(string_agg(id || '@' || price_cents, ' ' order by id), '') from products where category_id = %(id)s),"
        " (select coalesce(string_agg(product_id || '@' || n, ' ' order by product_id), '') from (select product_id, count(*) n from reviews"
        "  where product_id in (select id from products where category_id = %(id)s) group by 1) r))", {"id": category})


@long_for_recipes
def test_a_page_goes_with_each_row_that_it_was_made_from(package, start, database, evictd):
    driver = start(package)
    product = database.value("select min(id) from products where category_id = 2")
    changes = [
        "update categories set name = name || '+' where id = 2",
        f"update products set price_cents = price_cents + 1 where id = {product}",
        f"insert into reviews (product_id, rating, body) values ({product}, 5, 'new')",
        f"delete from reviews where id = (select min(id) from reviews where product_id = {product})",
        f"update products set category_id = 3 where id = {product}",
        f"update products set category_id = 2 where id = {product}",
        "insert into products values (5000, 'new', 'new', 1, 2)",
        "delete from products where id = 5000",
    ]
    assert driver.read("page:2") == page(database, 2)
    for change in changes:
        before = page(database, 2)
        database.execute(change)
        assert page(database, 2) != before, f"{change} changes nothing"
        oracle.converge(database, evictd)
        assert driver.read("page:2") == page(database, 2), change
        assert driver.read("page:2") == page(database, 2)


@long_for_recipes
def test_a_row_of_another_page_leaves_this_one_cached(package, start, database, evictd, redis_server):
    driver = start(package)
    driver.read("page:1")
    other = database.value("select min(id) from products where category_id = 4")
    cached = redis_server.client().get("page:1")
    assert cached is not None
    database.execute("update products set price_cents = price_cents + 1 where id = %s", (other,))
    oracle.converge(database, evictd)
    redis_server.client().set("page:1", cached.replace(b"@", b"#"), keepttl=True)
    assert "#" in driver.read("page:1"), "it was read again"
    redis_server.client().unlink("page:1")


ACTIONS = ["category", "price", "move", "remove_or_add", "review"]


def raced(package, start, database, evictd, redis_server, **more):
    """Writers and readers of three processes; then each page is what its rows say. -> pages that are wrong in the end."""
    drivers = [start(package, **more) for _ in range(3)]
    writers = shop.Shop(database, redis_server.client, "rows", writers=2, readers=0, actions=ACTIONS).start()
    rounds = 0

    def enough():
        nonlocal rounds
        rounds += 1
        for category in CATEGORIES:
            for driver in drivers:
                driver.ask(f"page:{category}")
            for driver in drivers:
                driver.answer()
        return rounds >= ROUNDS_MIN and writers.writes >= WRITES_MIN

    eventually("readers and writers have met often", enough, 120, every=0)
    writers.stop_writers()
    oracle.converge(database, evictd)
    cached = redis_server.client().exists(*(f"page:{category}" for category in CATEGORIES))
    wrong = [category for category in CATEGORIES for driver in drivers if driver.read(f"page:{category}") != page(database, category)]
    print(f"{rounds} rounds, {writers.writes} writes, {cached} pages cached in the end")
    return wrong


@long_for_recipes
def test_readers_and_writers_end_with_true_pages(package, start, database, evictd, redis_server):
    assert not raced(package, start, database, evictd, redis_server)


@long_for_recipes
def test_a_reader_that_forgets_a_table_is_caught(package, start, database, evictd, redis_server):
    driver = start(package, FORGET="1")
    # Listed by readers that forgot nothing: a membership outlives its value.
    redis_server.client().unlink("page:5", *redis_server.client().scan_iter("tag:row:reviews:*", count=1000))
    driver.read("page:5")
    product = database.value("select min(id) from products where category_id = 5")
    database.execute("insert into reviews (product_id, rating, body) values (%s, 1, 'forgotten')", (product,))
    oracle.converge(database, evictd)
    assert driver.read("page:5") != page(database, 5), "nothing here would find a tag that is missing"
    redis_server.client().unlink("page:5")


def refilled_while_the_commit_is_invisible(driver, database, evictd):
    """evictd has invalidated the row's tag while every reader still sees the old row: no page of it may stay."""
    product = database.value("select min(id) from products where category_id = 1")
    old = driver.read("page:1")
    assert old == page(database, 1)
    database.execute("alter system set synchronous_standby_names = 'nobody'")
    database.execute("select pg_reload_conf()")
    eventually("commits wait for a standby", lambda: database.value("show synchronous_standby_names") == "nobody")
    before = evictd.metrics().sum("evictd_invalidations_total", kind="tag")
    writer = threading.Thread(target=database.execute, daemon=True,
                              args=("update products set price_cents = price_cents + 77 where id = %s", (product,)))
    writer.start()
    try:
        eventually("the row's tags are invalidated", lambda: evictd.metrics().sum("evictd_invalidations_total", kind="tag") >= before + 2)
        assert driver.read("page:1") == old, "the old row is what the database says"
        assert driver.read("page:1") == old
    finally:
        database.execute("alter system reset synchronous_standby_names")
        database.execute("select pg_reload_conf()")
    writer.join(30)
    assert not writer.is_alive()
    oracle.converge(database, evictd)
    assert driver.read("page:1") == page(database, 1), "stale for good"


def test_an_old_row_is_not_cached_while_the_new_one_is_invisible(package, start, database, evictd):
    refilled_while_the_commit_is_invisible(start(package), database, evictd)


@long_for_recipes
def test_a_broken_token_is_caught(language, mode, parts_folder, start, database, evictd, redis_server):
    broken = languages.Built(language, f"{parts_folder}/{mode}-{language.name}-broken", token=BROKEN_TOKEN)
    redis_server.client().unlink("page:1")
    with pytest.raises(AssertionError, match="stale for good"):
        refilled_while_the_commit_is_invisible(start(broken), database, evictd)
    redis_server.client().unlink("page:1", "evictd:{page:1}")  # which claims that nothing is newer
