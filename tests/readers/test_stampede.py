"""Five hundred readers ask for one key in the moment after it was deleted."""

import json
import subprocess

import pytest
from harness import daemon, process, servers

READERS, ROUNDS = 500, 20


@pytest.fixture(scope="module")
def reads(parts_folder):
    """reads(mode): what the program in race/stampede.cpp counted."""
    postgres = servers.Postgres(f"{parts_folder}/postgres").start()
    postgres.execute("create database shop", database="postgres")
    postgres.execute("create table items (id int primary key, version bigint not null); insert into items values (1, 0)")
    redis = servers.Redis(f"{parts_folder}/redis").start()
    evictd = daemon.Evictd(f"{parts_folder}/evictd", postgres.url(), redis.url(),
                           "- {table: public.items, keys: ['item:{id}'], fill: checked}\n").start()

    def run(mode):
        done = subprocess.run([daemon.binary("stampede"), postgres.url(), str(redis.port), str(READERS), str(ROUNDS), mode],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr
        one = json.loads(done.stdout)
        print(f"{mode}: {one['selects'] / one['rounds']:.2f} database reads per invalidation, {one['reads']} reads in all")
        assert one["reads"] == READERS * ROUNDS
        assert one["older"] == 0, "a reader who asked after the delete got less than the row said when its update returned"
        return one

    yield run
    evictd.kill()
    process.end(redis.process)
    postgres.stop("immediate")


def test_without_leases_many_ask_the_database(reads):
    # The control: were it not so, the leases would show nothing.
    assert reads("alone")["selects"] > 5 * ROUNDS


def test_with_leases_one_asks_the_database(reads):
    # One for each invalidation, and one more when a fill was rejected because its commit was not yet visible.
    assert reads("lease")["selects"] <= 2 * ROUNDS
