"""PostgreSQL's standbys: the stream read from one (16 and later), and a slot that is kept on one (17 and later)."""

import pytest

from harness import daemon
from harness.waiting import eventually
from readers.standby import Standby, either, fail_over

RULES = "- {table: products, keys: ['product:{id}']}\n"


@pytest.fixture(name="make_standby")
def standbys_of_the_primary(folder):
    made = []

    def make(primary, **settings):
        one = Standby(f"{folder}/standby{len(made)}", primary, 0)
        with open(f"{one.data}/postgresql.conf", "a", encoding="utf-8") as config:
            for name, value in settings.items():
                config.write(f"{name} = '{value}'\n")
        made.append(one)
        return one.start()

    yield make
    for one in made:
        one.stop()


def test_a_standby_is_followed_once_it_is_the_primary(postgres, redis, cache, make_standby, folder):
    """PostgreSQL 16 and later would decode there as well."""
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", standby.url(), redis.url(), RULES)
    checked = evictd.command("check")
    assert checked.returncode == 2 and "PG004 error" in checked.stdout, checked.stdout
    evictd.start(ready=False)
    try:
        eventually("readiness says why", lambda: "expected a primary server, got a standby" in evictd.http("/readyz")[1])
        postgres.stop("immediate")
        standby.execute("select pg_promote()")
        evictd.wait_until_ready()
        cache.set("product:7", "old")
        standby.execute("update products set name = name || '.' where id = 7")
        eventually("the key is gone", lambda: not cache.exists("product:7"))
    finally:
        evictd.stop()


def test_a_failover_takes_what_only_the_old_primary_had(postgres, redis, cache, make_standby, folder):
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(), RULES).start()
    try:
        fail_over(postgres, standby, cache, evictd, "slot_missing")
    finally:
        evictd.stop()
