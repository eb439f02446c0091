"""What docs/readers.md and docs/redis.md tell people to type works as it stands there."""

import os
import re

import languages
import pytest
import redis as redis_client
from harness import daemon, oracle
from harness.waiting import eventually

SEES_ALL = "4000000:4000000:"
DOCUMENTS = ("docs/readers.md", "docs/redis.md")
RECIPES = f"{languages.ROOT}/docs/recipes"
LINES_MAX = 30
ROWS_LINES_MAX = 37  # with a transaction around the SELECTs
SERVER_LINES_MAX = 90  # with its routes and headers


def acl_lines():
    """{user: [word, ...]} of every ACL SETUSER in the documents."""
    found = {}
    for document in DOCUMENTS:
        with open(f"{languages.ROOT}/{document}", encoding="utf-8") as file:
            for block in re.findall(r"^```\n(ACL SETUSER .*?)^```", file.read(), re.M | re.S):
                assert block.count("\n") == 1, f"redis-cli takes a line at a time: {block}"
                words = block.split()
                assert words[2] not in found, f"two lines for the user {words[2]}"
                found[words[2]] = words
    return found


@pytest.fixture(scope="module")
def rights(redis_server):
    """Applies the lines exactly as they are written."""
    lines = acl_lines()
    assert set(lines) == {"evictd", "reader", "cluster_reader", "lazy", "writer"}
    for words in lines.values():
        assert redis_server.client().execute_command(*words) == b"OK"
    return lines


@pytest.fixture(scope="module")
def restricted_evictd(parts_folder, database, redis_server, rights):
    rules = ("- {table: public.products, keys: ['product:{id}'], tags: ['category:{category_id}'], fill: plain, settle: 200ms}\n"
             "- {table: public.settings, purge: ['product:setting:*']}\n")
    one = daemon.Evictd(f"{parts_folder}/restricted", database.url(), f"redis://evictd:password@127.0.0.1:{redis_server.port}/0",
                        rules, slot="restricted", publication="restricted")
    one.start()
    yield one
    one.kill()
    print(one.log_tail())


def test_the_daemon_needs_no_more_than_its_line(restricted_evictd, database, redis_server, product):
    cache, key = redis_server.client(), f"product:{product}"
    cache.mset({key: "old", "product:listed": "old", "product:setting:1": "old"})
    cache.sadd("tag:category:3", "product:listed")
    database.execute("update products set category_id = 3 where id = %s", (product,))
    database.execute("update settings set value = 'x'")
    eventually("key, member and pattern are gone", lambda: not cache.exists(key, "product:listed", "product:setting:1"))
    cache.set(key, "put back")
    oracle.converge(database, restricted_evictd)
    cache.set(key, "old")
    database.execute("truncate products")
    eventually("the table's pattern is gone", lambda: not cache.exists(key))
    oracle.converge(database, restricted_evictd)
    metrics = restricted_evictd.metrics()
    assert metrics.sum("evictd_redis_errors_total") == 0
    assert b"evictd" in redis_server.client().execute_command("FUNCTION", "LIST", "LIBRARYNAME", "evictd")[0]
    assert "NOPERM" not in restricted_evictd.log_text()


# The users of readers, and the tag that each may name.
TAG_OF = {"reader": "tag:%s", "lazy": "evictd:{tag:%s}"}


def every_call_of_a_reader(client, key, tag):
    """Each call, and each way through it, that a reader has."""
    marker, tag = "evictd:{" + key + "}", tag % key
    fill, get = ("FCALL", "evictd_fill"), ("FCALL", "evictd_get")
    assert client.execute_command(*get, 2, key, marker, "LEASE", 5000)[0] == b"miss"
    for lifetime in (1000, 600_000):
        assert client.execute_command(*fill, 3, key, marker, tag, SEES_ALL, lifetime, "v", "AGE", 1, "JITTER", 1) == 1
    assert client.execute_command(*get, 3, key, marker, tag, "LEASE", 5000, "EARLY", 1)[1] == b"v"
    client.get(key)


def as_user(redis_server, user):
    return redis_server.client(username=user, password="password")


@pytest.mark.parametrize("user", TAG_OF)
def test_a_reader_needs_no_more_than_its_line(restricted_evictd, rights, redis_server, user):
    every_call_of_a_reader(as_user(redis_server, user), f"product:{user}", TAG_OF[user])


@pytest.mark.parametrize("user", TAG_OF)
def test_a_reader_needs_all_of_its_line(restricted_evictd, rights, redis_server, user):
    line = " ".join(rights[user])
    for right in re.findall(r"\+\w+", line):
        less = line.replace(right, "", 1)
        # Markers are read by GETRANGE. MGET is for one of another type, and for lines from before that name no GETRANGE.
        for instead in {"+mget": ["+getrange"], "+getrange": ["+mget"]}.get(right, []):
            less = less.replace(instead, "", 1)
        less = less.replace("()", "").split()
        less[2] = "less"
        redis_server.client().execute_command("ACL", "DELUSER", "less")
        redis_server.client().execute_command(*less)
        with pytest.raises(redis_client.ResponseError, match="(?i)permission|can't run this command"):
            every_call_of_a_reader(as_user(redis_server, "less"), f"product:without:{user}:{right}", TAG_OF[user])


MISUSES = (
    ("SET", "evictd:record:restricted", "x"),
    ("GET", "evictd:record:restricted"),
    ("SET", "evictd:purged", "x"),
    ("SET", "session:1", "x"),
    ("UNLINK", "product:1"),
    ("EVAL", "return redis.call('DEL', 'product:1')", 0),
    ("FCALL", "evictd_fill", 2, "evictd:record:restricted", "evictd:{evictd:record:restricted}", SEES_ALL, 1000, "v"),
    ("FCALL", "evictd_fill", 2, "product:1", "evictd:{product:2}", SEES_ALL, 1000, "v"),
    ("FCALL", "evictd_invalidate", 2, "product:1", "evictd:{product:1}", 30),
)


@pytest.mark.parametrize("misuse", MISUSES, ids=[" ".join(str(word) for word in words[:4])[:60] for words in MISUSES])
@pytest.mark.parametrize("user", TAG_OF)
def test_a_reader_can_do_no_more(restricted_evictd, rights, redis_server, user, misuse):
    record = redis_server.client().get("evictd:record:restricted")
    redis_server.client().set("product:1", "v")
    with pytest.raises(redis_client.ResponseError):
        as_user(redis_server, user).execute_command(*misuse)
    assert redis_server.client().get("evictd:record:restricted") == record
    assert redis_server.client().get("product:1") == b"v"


def test_a_writer_needs_no_more_than_its_line(restricted_evictd, rights, redis_server):
    key, marker = "product:writer", "evictd:{product:writer}"
    client = as_user(redis_server, "writer")
    replies = [client.execute_command("FCALL", "evictd_invalidate", 2, key, marker, xid) for xid in (30, 30, 31)]
    assert replies == [b"absent", b"replayed", b"absent"]
    redis_server.client().set(key, "v")
    assert client.execute_command("FCALL", "evictd_invalidate", 2, key, marker, 32) == b"deleted"


def test_the_recipe_runs_with_a_readers_rights(restricted_evictd, database, redis_server, parts_folder):
    language = languages.language_or_skip("python")
    built = languages.Built(language, f"{parts_folder}/recipe")
    driver = languages.Driver(built, database, redis_server, {"REDIS_USER": "reader", "REDIS_PASSWORD": "password"})
    assert driver.read("product:2000") == ""
    assert redis_server.client().get("product:2000") == b""
    driver.stop()


@pytest.mark.parametrize("name", [name for name in sorted(os.listdir(RECIPES)) if os.path.isfile(f"{RECIPES}/{name}")])
def test_a_recipe_is_short(name):
    lines = [line for line in languages.recipe_text(name).splitlines() if not re.match(r"\s*(#|//|<\?php|$)", line)]
    lines_max = SERVER_LINES_MAX if name.startswith("page_server") else ROWS_LINES_MAX if name.lower().startswith("row") else LINES_MAX
    assert len(lines) <= lines_max, f"{name} has {len(lines)} lines besides comments and blank ones"


def test_every_recipe_is_in_the_document():
    with open(f"{languages.ROOT}/docs/readers.md", encoding="utf-8") as file:
        text = file.read()
    for name in os.listdir(f"{languages.ROOT}/docs/recipes"):
        if os.path.isdir(f"{languages.ROOT}/docs/recipes/{name}"):
            assert f"(recipes/{name}/README.md)" in text
            continue
        run_by = [each for each in (languages.LANGUAGES | languages.ROWS).values() if each.recipe == name]
        run_by += ["test_page_servers.py"] if name in ("page_server.py", "page_server.mjs") else []
        line = next(line for line in text.splitlines() if f"(recipes/{name})" in line)
        assert ("**not run by our tests**" in line) == (not run_by), f"{name}: who runs it?"
