"""One PostgreSQL with the shop, one Redis and one evictd with `fill: checked` for all tests of a file: each test has
a product of its own."""

import itertools
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import daemon, process, servers, shop  # noqa: E402  pylint: disable=wrong-import-position

RULES = """
defaults: {fill: checked}
rules:
  - {table: public.products, keys: ["product:{id}", "{{product}}:{id}"], tags: ["category:{category_id}"]}
"""


@pytest.fixture(scope="module")
def parts_folder():
    path = process.temporary_folder("evictd-readers-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def database(parts_folder):
    server = servers.Postgres(f"{parts_folder}/postgres").start()
    shop.create(server, daemon.ROOT)
    server.execute("alter table products replica identity full")
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module")
def redis_server(parts_folder):
    server = servers.Redis(f"{parts_folder}/redis").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def evictd(parts_folder, database, redis_server):
    one = daemon.Evictd(f"{parts_folder}/evictd", database.url(), redis_server.url(), RULES)
    one.start()
    yield one
    if one.is_running():
        one.kill()
    print(f"--- the end of {one.log}\n{one.log_tail()}")


_products = itertools.count(1)


@pytest.fixture
def product():
    """The number of a product (of 100) that no other test of this file uses."""
    return next(_products)
