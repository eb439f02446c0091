"""Partitions that publish as their root: of an old row the server logs what the partition's own replica identity names, and sends it
under the root's description. And types that hide others: what they make of a value, and what is altered below them."""

import pytest
from harness import oracle
from harness.waiting import eventually

EVENTS = """
create table ev (id int not null, slug text not null, v int, primary key (id)) partition by range (id);
create table ev1 partition of ev for values from (0) to (100);
create unique index ev1_slug on ev1 (slug);
insert into ev values (1, 'a', 1), (2, 'b', 1), (3, 'c', 1);
"""
PUBLICATION = "create publication evictd for table ev with (publish_via_partition_root = true)"
BOTH = "- {table: ev, keys: ['ev:{id}', 's:{slug}'], settle: 200ms}\n"


@pytest.fixture
def server(make_postgres):
    made = make_postgres(with_shop=False)
    made.execute("create database shop", database="postgres")
    return made


def goes(server, cache, evictd, change, *keys):
    for key in keys:
        cache.set(key, "cached")
    server.execute(change)
    oracle.wait_until_acknowledged(server, evictd.slot)
    eventually(f"{keys} are gone after {change}", lambda: not cache.exists(*keys), 20)


def test_a_partition_that_logs_less_than_its_root_says(server, cache, make_evictd):
    server.execute(EVENTS + "alter table ev replica identity full;" + PUBLICATION)
    evictd = make_evictd(rules=BOTH, postgres_url=server.url()).start()
    goes(server, cache, evictd, "delete from ev where id = 1", "s:a", "ev:1")
    goes(server, cache, evictd, "update ev set slug = 'z' where id = 2", "s:b", "ev:2")


def test_a_partition_with_another_identity_than_its_root(server, cache, make_evictd):
    server.execute(EVENTS + "alter table ev1 replica identity using index ev1_slug;" + PUBLICATION)
    evictd = make_evictd(rules="- {table: ev, keys: ['ev:{id}'], settle: 200ms}\n", postgres_url=server.url()).start()
    goes(server, cache, evictd, "delete from ev where id = 1", "ev:1")
    goes(server, cache, evictd, "update ev set id = 5 where id = 2", "ev:2")
    goes(server, cache, evictd, "update ev set id = 6, slug = 'q' where id = 3", "ev:3")


def test_the_next_partition_logs_less_than_those_before(server, cache, make_evictd):
    server.execute(EVENTS + "alter table ev replica identity full; alter table ev1 replica identity full;" + PUBLICATION)
    evictd = make_evictd(rules=BOTH, postgres_url=server.url()).start()
    goes(server, cache, evictd, "update ev set slug = 'y' where id = 1", "s:a")
    server.execute("create table ev2 partition of ev for values from (100) to (200); insert into ev values (101, 'n', 1)")
    oracle.wait_until_acknowledged(server, evictd.slot)
    goes(server, cache, evictd, "update ev set slug = 'm' where id = 101", "s:n")
    goes(server, cache, evictd, "delete from ev where id = 101", "s:m")
    cache.set("s:c", "cached")
    goes(server, cache, evictd, "update ev set v = 2 where id = 3", "ev:3")


def test_elements_of_a_domain_are_written_as_those_of_its_type(server, cache, make_evictd):
    server.execute("create domain yes as boolean; create domain more as yes[];"
                   "create table t (id int primary key, f yes[], g more, h boolean[]); insert into t values (1, '{t,f}', '{t}', '{t}');"
                   "alter table t replica identity full")
    evictd = make_evictd(rules="- {table: t, keys: ['f:{f.*}', 'g:{g.*}', 'h:{h.*}'], settle: 200ms}\n", postgres_url=server.url()).start()
    goes(server, cache, evictd, "delete from t", "f:true", "f:false", "g:true", "h:true")


def test_a_label_of_an_enum_below_a_range_is_renamed(server, cache, make_evictd):
    server.execute("create type size as enum ('s', 'm', 'l'); create type sizes as range (subtype = size);"
                   "create table t (id int primary key, r sizes); insert into t values (1, '[s,m]')")
    evictd = make_evictd(rules="- {table: t, keys: ['t:{id}'], settle: 200ms}\n", postgres_url=server.url()).start()
    goes(server, cache, evictd, "alter type size rename value 's' to 'small'", "t:1")


def test_a_partition_that_logs_all_by_now_is_believed_again(server, cache, make_evictd):
    """What is not logged comes as null, like what is null: only of a partition that logs all is the latter known."""
    server.execute(EVENTS + "alter table ev alter slug drop not null; alter table ev replica identity full;" + PUBLICATION)
    evictd = make_evictd(rules=BOTH, postgres_url=server.url()).start()
    goes(server, cache, evictd, "update ev set slug = null where id = 1", "s:a")
    cache.set("s:c", "of another row")
    goes(server, cache, evictd, "update ev set slug = 'x' where id = 1", "s:x", "s:c")  # the old slug may have been any
    server.execute("alter table ev1 replica identity full")
    goes(server, cache, evictd, "update ev set slug = null where id = 2", "s:b", "ev:2")
    cache.set("s:c", "of another row")
    goes(server, cache, evictd, "update ev set slug = 'w' where id = 2", "s:w", "ev:2")
    assert cache.exists("s:c"), "by key, and no longer by pattern"
