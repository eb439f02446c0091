"""What the package promises with SQLAlchemy, Django and asynchronous sessions: each case by itself. Run by test_python_package.py."""

import asyncio
import os
import re

import django
import evictd_reader
import psycopg
import redis
import redis.asyncio
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

URL = os.environ["POSTGRES_URL"].replace("postgresql://", "postgresql+psycopg://")
SERVER = conninfo_to_dict(os.environ["POSTGRES_URL"])
client = redis.Redis(port=int(os.environ["REDIS_PORT"]))
engine = create_engine(URL)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


def cached_note(name, **options):
    cache = evictd_reader.Cache(client, evictd_reader.sqlalchemy("session"), **options)

    @cache.cached(f"note:{name}")
    def note(session):
        return session.get(Note, 1).body

    note.counts = lambda: cache.counts
    return note


def is_cached(name):
    return client.exists(f"note:{name}") == 1


def a_session_of_its_own_is_cached_and_left_as_it_was():
    note = cached_note("own")
    with Session(engine) as session:
        with session.begin():
            body = note(session)
        assert note(session) == body
    assert is_cached("own")
    snapshot = evictd_reader.sqlalchemy("session")
    with Session(engine) as session:
        assert snapshot.token({"session": session})
        assert not session.in_transaction()


def what_a_session_loaded_before_the_snapshot_is_not_cached():
    note = cached_note("held")
    with Session(engine, expire_on_commit=False) as session:
        held = session.get(Note, 1)
        with Session(engine) as other, other.begin():
            other.execute(text("update notes set body = body || '+' where id = 1"))
        assert note(session) == held.body, "handed out as it was loaded"
        assert not is_cached("held"), "a snapshot of now would claim what it has not seen"
        session.commit()
        assert note(session) == held.body
        assert not is_cached("held")
    with Session(engine) as session:
        assert note(session).endswith("+")
    assert is_cached("held")


def a_session_that_has_written_is_not_cached():
    note = cached_note("written")
    with Session(engine) as session:
        session.execute(text("update notes set body = 'mine' where id = 1"))
        assert note(session) == "mine"
        assert not is_cached("written")


def a_function_that_writes_is_not_cached():
    cache = evictd_reader.Cache(client, evictd_reader.sqlalchemy("session"))

    @cache.cached("note:writes:{flush}")
    def note(session, flush):
        one = session.get(Note, 1)
        one.body = "mine"
        if flush:
            session.flush()
        return one.body

    for flush in (False, True):
        with Session(engine) as session:
            assert note(session, flush) == "mine"
            assert not is_cached(f"writes:{str(flush).lower()}")


def a_core_connection_is_cached():
    cache = evictd_reader.Cache(client, evictd_reader.sqlalchemy("connection"))
    note = cache.cached("note:core")(lambda connection: connection.execute(text("select body from notes")).scalar())
    with engine.connect() as connection:
        assert note(connection) == note(connection)
    assert is_cached("core")


def asynchronous_sessions_are_cached():
    async def main():
        async_engine = create_async_engine(URL)
        async_client = redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"]))
        cache = evictd_reader.AsyncCache(async_client, evictd_reader.sqlalchemy("session"))

        @cache.cached("note:async:{which}")
        async def note(session, which):
            return (await session.get(Note, 1)).body

        async with AsyncSession(async_engine) as session:
            async with session.begin():
                await note(session, 1)
        async with AsyncSession(async_engine) as session:
            await session.execute(text("update notes set body = 'mine' where id = 1"))
            assert await note(session, 2) == "mine"
        async with async_engine.connect() as connection:
            core = cache.cached("note:async:core")(read_core)
            assert await core(connection) == await core(connection)
        await async_client.aclose()
        await async_engine.dispose()

    async def read_core(session):
        return (await session.execute(text("select body from notes"))).scalar()

    asyncio.run(main())
    assert is_cached("async:1") and is_cached("async:core")
    assert not is_cached("async:2")


def django_settings(caches):
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": SERVER["dbname"], "USER": SERVER["user"],
                               "HOST": SERVER["host"], "PORT": SERVER["port"]}},
        CACHES={**caches, "notes": {**caches["rows"], "KEY_PREFIX": "note"}})
    django.setup()


def django_cases():
    from django.core.cache import caches
    from django.db import connection, transaction

    rows = caches["notes"]

    def body():
        with connection.cursor() as cursor:
            cursor.execute("select body from notes")
            return cursor.fetchone()[0]

    def stored(key):
        return client.exists(f"note:1:{key}") == 1

    # Any object, under Django's own key; a tag told inside.
    def load():
        evictd_reader.uses("notes", 1)
        return {body(): (1, None)}

    assert rows.get_or_set("object", load) == rows.get_or_set("object", load) == {body(): (1, None)}
    assert stored("object") and client.smembers("tag:row:notes:1") == {b"note:1:object"}
    rows.get_or_set("tags", body, tags=["t"])
    assert client.smembers("tag:t") == {b"note:1:tags"}
    rows.get_or_set("for ever".replace(" ", "-"), body, timeout=None)
    assert client.ttl("note:1:for-ever") > 10**8

    # get() and set(), None among the values.
    missing = object()
    assert rows.get("none", missing) is missing
    rows.set("none", None)
    assert rows.get("none", missing) is None
    assert "none" in rows
    assert rows.get_many(["none", "object"]) == {"none": None, "object": {body(): (1, None)}}
    rows.set("unasked", body())
    assert not stored("unasked")
    rows.get("once")
    rows.set("once", 1)
    rows.delete("once")
    rows.set("once", 2)
    assert not stored("once"), "a snapshot serves one set()"
    assert rows.counts["not_filled_without_a_get"] == 2
    rows.get("zero")
    rows.set("zero", 1, timeout=0)
    assert not stored("zero")

    # Within transactions.
    with transaction.atomic():
        assert rows.get_or_set("read", body) == body()
        rows.get("read-set")
        rows.set("read-set", body())
    assert stored("read") and stored("read-set")
    with transaction.atomic():
        rows.get("before")
        with connection.cursor() as cursor:
            cursor.execute("update notes set body = 'mine'")
        rows.set("before", body())
        assert rows.get_or_set("written", body) == "mine"
        assert rows.get("written-get") is None
        rows.set("written-get", body())
        transaction.set_rollback(True)
    assert not stored("before") and not stored("written") and not stored("written-get")
    assert rows.get("written-get", missing) is missing, "and no lease was left: this waits for nobody"

    for refused in (lambda: rows.add("a", 1), lambda: rows.incr("a"), lambda: rows.touch("a"), rows.clear):
        try:
            refused()
        except NotImplementedError as error:
            assert "put locks, counters and sessions into another cache" in str(error)
        else:
            raise AssertionError("it was not refused")
    try:
        rows.get_or_set("value", 7)
    except TypeError as error:
        assert "what was read before the call has no snapshot" in str(error)
    else:
        raise AssertionError("a value that was read before was taken")


def the_examples_of_the_readme_run():
    """As they stand there, one after the other; only where the servers are is ours."""
    with open(os.environ["README"], encoding="utf-8") as file:
        blocks = re.findall(r"^```python\n(.*?)^```", file.read(), re.M | re.S)
    assert len(blocks) == 6
    port = os.environ["REDIS_PORT"]
    namespace = {}
    for block in blocks:
        text_of_block = block.replace("postgresql+psycopg://localhost/shop", URL).replace(
            "postgresql://localhost/shop", os.environ["POSTGRES_URL"]).replace("socket_timeout=1", f"socket_timeout=1, port={port}").replace(
            "localhost:6379", f"localhost:{port}")
        if "CACHES = {" in block:
            exec(text_of_block, namespace)  # pylint: disable=exec-used
            django_settings(namespace["CACHES"])
        else:
            exec(text_of_block, namespace)  # pylint: disable=exec-used
    for key in ("product:7", "category:3", ":1:setting:banner"):
        assert client.exists(key), key
    with psycopg.connect(os.environ["POSTGRES_URL"]) as connection:
        assert namespace["order"](connection, 1) == namespace["order"](connection, 1)
    assert client.smembers("tag:row:orders:1") == {b"order:1"} == client.smembers("tag:row:reviews:product_id=2")

    async def main():
        connection = await psycopg.AsyncConnection.connect(os.environ["POSTGRES_URL"])
        client.unlink("product:7")
        assert await namespace["async_product"](connection, 7) == ["Product 7", 700]
        await connection.close()

    asyncio.run(main())
    assert client.exists("product:7")


for case in (the_examples_of_the_readme_run, a_session_of_its_own_is_cached_and_left_as_it_was, what_a_session_loaded_before_the_snapshot_is_not_cached,
             a_session_that_has_written_is_not_cached, a_function_that_writes_is_not_cached, a_core_connection_is_cached,
             asynchronous_sessions_are_cached, django_cases):
    print(case.__name__, flush=True)
    case()
print("all cases hold")
