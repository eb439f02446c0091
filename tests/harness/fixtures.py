"""pytest fixtures: private servers with the shop in them, and daemons on top. Everything is per test."""

import os
import random
import shutil

import pytest

from . import daemon, process, servers, shop

ROOT = daemon.ROOT


def soak():
    """True when the long form of a scenario is wanted."""
    return os.environ.get("EVICTD_SOAK") == "1"


@pytest.fixture
def seed(request):
    """A number that depends on EVICTD_SEED and on the test's name only."""
    base = os.environ.setdefault("EVICTD_SEED", str(random.randrange(10**9)))
    print(f"EVICTD_SEED={base}")
    return f"{base}/{request.node.name}"


@pytest.fixture
def folder():
    path = process.temporary_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_postgres(folder):
    """make_postgres(settings): a running private server with the shop loaded."""
    made = []

    def make(settings=None, with_shop=True):
        server = servers.Postgres(f"{folder}/postgres{len(made)}", settings)
        made.append(server)
        server.start()
        if with_shop:
            shop.create(server, ROOT)
        return server

    yield make
    for server in made:
        server.stop("immediate")


@pytest.fixture
def postgres(make_postgres):
    return make_postgres()


@pytest.fixture
def make_redis(folder):
    made = []

    def make(*options):
        server = servers.Redis(f"{folder}/redis{len(made)}", options)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def redis(make_redis):
    return make_redis()


@pytest.fixture
def cache(redis):
    """A client of the private Redis, with the sentinels planted."""
    client = redis.client()
    shop.plant_sentinels(client)
    return client


@pytest.fixture
def shop_rules():
    with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as file:
        return file.read()


@pytest.fixture
def make_evictd(folder, postgres, redis, cache, shop_rules, request):
    """make_evictd(...): a configured daemon on the private servers, not yet started."""
    made = []

    def make(rules=None, postgres_url=None, redis_url=None, **more):
        one = daemon.Evictd(f"{folder}/evictd{len(made)}", postgres_url or postgres.url(), redis_url or redis.url(),
                            rules or shop_rules, **more)
        made.append(one)
        return one

    yield make
    for one in made:
        if one.is_running():
            one.kill()
        # Shown by pytest when the test failed.
        if os.path.exists(one.log):
            print(f"--- the end of {one.log}\n{one.log_tail()}")
