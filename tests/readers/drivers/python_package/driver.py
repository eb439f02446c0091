"""Reads keys through the installed package: see tests/readers/drivers/README.md. VARIANT says with which library."""

import asyncio
import json
import os
import sys

import evictd_reader
import redis
import redis.asyncio

POSTGRES = os.environ["POSTGRES_URL"]
PRODUCT = "select coalesce((select row_to_json(p)::text from products p where id = %s), '')"
client_options = {"port": int(os.environ["REDIS_PORT"]), "socket_timeout": 1}


def number_of(key):
    return int(key.split(":")[1])


# A page made by three SELECTs from rows of three tables; each row is told as it is used.
def page_of(connection, category):
    uses = evictd_reader.uses
    uses("categories", category)
    name = connection.execute("select name from categories where id = %s", (category,)).fetchone()
    uses("products", category_id=category)  # whatever product comes to this category
    products = connection.execute("select id, price_cents from products where category_id = %s order by id", (category,)).fetchall()
    uses("products", *(product for product, _ in products))
    if "FORGET" not in os.environ:
        for product, _ in products:
            uses("reviews", product_id=product)
    reviews = connection.execute("select product_id, count(*) from reviews where product_id = any(%s) group by 1 order by 1",
                                 ([product for product, _ in products],)).fetchall()
    return "|".join([name[0], *(" ".join(f"{a}@{b}" for a, b in rows) for rows in (products, reviews))])


def psycopg_reader():
    import psycopg

    # As it is by default: a transaction begins with the first statement.
    connection = psycopg.connect(POSTGRES)
    cache = evictd_reader.Cache(redis.Redis(**client_options, decode_responses=True), evictd_reader.psycopg(lambda: connection))

    @cache.cached("{key}", codec=evictd_reader.TEXT)
    def product(connection, key):
        return connection.execute(PRODUCT, (number_of(key),)).fetchone()[0]

    @cache.cached("page:{category}", codec=evictd_reader.TEXT, lazy="LAZY" in os.environ)
    def page(category):
        return page_of(connection, category)

    def read(key):
        value = page(number_of(key)) if key.startswith("page:") else product(connection, key)
        connection.rollback()
        return value

    return read


def sqlalchemy_reader():
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    engine = create_engine(POSTGRES.replace("postgresql://", "postgresql+psycopg://"))
    cache = evictd_reader.Cache(redis.Redis(**client_options), evictd_reader.sqlalchemy("session"))

    @cache.cached("{key}", codec=evictd_reader.TEXT)
    def product(session, key):
        return session.execute(text(PRODUCT.replace("%s", ":id")), {"id": number_of(key)}).scalar()

    def read(key):
        with Session(engine) as session:
            return product(session, key)

    return read


def django_setup():
    import django
    from django.conf import settings
    from psycopg.conninfo import conninfo_to_dict

    server = conninfo_to_dict(POSTGRES)
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": server["dbname"], "USER": server["user"],
                               "HOST": server["host"], "PORT": server["port"]}},
        CACHES={"default": {"BACKEND": "evictd_reader.django_cache.RowCache",
                            "LOCATION": f"redis://127.0.0.1:{client_options['port']}/0",
                            "KEY_FUNCTION": lambda key, prefix, version: key, "OPTIONS": {"codec": evictd_reader.TEXT}}})
    django.setup()

    def load(key):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(PRODUCT, (number_of(key),))
            return cursor.fetchone()[0]

    return load


def django_reader():
    """get_or_set()."""
    load = django_setup()
    from django.core.cache import cache

    return lambda key: cache.get_or_set(key, lambda: load(key), 600)


def django_get_set_reader():
    """As existing code does it: get(), and on a miss set()."""
    load = django_setup()
    from django.core.cache import cache

    def read(key):
        value = cache.get(key)
        if value is None:
            value = load(key)
            cache.set(key, value, 600)
        return value

    return read


async def async_main():
    import psycopg

    connection = await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True)
    cache = evictd_reader.AsyncCache(redis.asyncio.Redis(**client_options), evictd_reader.psycopg(lambda: connection))

    @cache.cached("{key}", codec=evictd_reader.TEXT)
    async def product(key):
        return (await (await connection.execute(PRODUCT, (number_of(key),))).fetchone())[0]

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await product(line.strip())), flush=True)


READERS = {"psycopg": psycopg_reader, "sqlalchemy": sqlalchemy_reader, "django": django_reader, "django-get-set": django_get_set_reader}
if os.environ["VARIANT"] == "async":
    asyncio.run(async_main())
else:
    read = READERS[os.environ["VARIANT"]]()
    for line in sys.stdin:
        print(json.dumps(read(line.strip())), flush=True)
