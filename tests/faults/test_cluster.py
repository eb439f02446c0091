"""A Redis Cluster of three masters with replicas, under write load, with plain readers and with checked ones that join tags: masters
are killed, stand still, are failed over by hand; slots move back and forth, nodes are added, links freeze. In the end every cached value
equals its row, and no checked fill was stale."""

import contextlib
import json
import os
import random
import shlex
import subprocess
import sys
import threading
import time

import psycopg2
import pytest
import redis
from harness import cluster as clusters
from harness import daemon, oracle
from harness.fixtures import soak
from harness.waiting import eventually

sys.path.insert(0, f"{daemon.ROOT}/docs/recipes/python")
import evictd_reader  # noqa: E402  pylint: disable=wrong-import-position

ROWS = 400
SHELVES = 20
RULES = """
- table: public.plain_items
  keys: ["plain:{id}"]
  tags: ["plainshelf:{shelf}"]
- table: public.items
  fill: checked
  keys: ["item:{id}"]
  tags: ["shelf:{shelf}"]
"""
SCHEMA = f"""
create table plain_items (id integer primary key, shelf integer not null, n bigint not null default 0);
create table items (id integer primary key, shelf integer not null, n bigint not null default 0);
alter table plain_items replica identity full;
alter table items replica identity full;
insert into plain_items select i, i % {SHELVES}, 0 from generate_series(1, {ROWS}) i;
insert into items select i, i % {SHELVES}, 0 from generate_series(1, {ROWS}) i;
"""
# A plain reader may take less than `settle` from its SELECT to its SET; one that took longer takes its value out again.
PATIENCE = 0.4
TROUBLE = (redis.RedisError, redis.exceptions.RedisClusterException, psycopg2.OperationalError, psycopg2.InterfaceError, OSError)


class Load:
    """Writers and readers until stop(). What a server that is away keeps them from, they try again."""

    def __init__(self, postgres, cluster, seed, pause=0.002, many=False):
        self.postgres, self.cluster, self.pause, self.many = postgres, cluster, pause, many
        self.resting, self.rested = threading.Event(), threading.Event()  # the writer
        self.native = NativeReaders(postgres, cluster) if many else None
        self.writes = self.plain_fills = self.hits = 0
        self.caches = []  # each that was made
        self.failure = None
        self.writing, self.reading = threading.Event(), threading.Event()
        work = [(self.write, self.writing)] + [(self.read_plain, self.reading)] + [(self.read_checked, self.reading)] * 2
        self.threads = [(threading.Thread(target=self.guard, args=(what, ended, f"{seed}{i}"), daemon=True), ended)
                        for i, (what, ended) in enumerate(work)]

    def start(self):
        for thread, _ in self.threads:
            thread.start()
        eventually("readers and writers are at work", lambda: self.writes > 50 and self.fills() > 50 and self.plain_fills > 50, 30)
        return self

    def fills(self):
        return (self.native.fills() if self.native else 0) + sum(cache.counts.get("fills", 0) for cache in self.caches)

    def guard(self, what, ended, seed):
        source = random.Random(seed)
        try:
            while not ended.is_set():
                try:
                    with contextlib.suppress(*TROUBLE), contextlib.closing(self.postgres.connect(connect_timeout=5)) as connection:
                        what(source, ended, connection)
                except TypeError as error:  # redis-py 4.3 takes the answer to ASKING apart with the options of the command behind it
                    if "NEVER_DECODE" not in str(error):
                        raise
                ended.wait(0.05)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
            raise

    def rest(self):
        """Nobody writes until go_on()."""
        self.rested.clear()
        self.resting.set()
        eventually("the writer rests", self.rested.is_set, 60)

    def go_on(self):
        self.resting.clear()

    def stop_writers(self):
        self.end(self.writing)

    def stop(self):
        self.end(self.writing)
        self.end(self.reading)
        if self.native:
            self.native.stop()
        assert self.failure is None, repr(self.failure)

    def end(self, event):
        event.set()
        for thread, ended in self.threads:
            if ended is event:
                thread.join(60)
                assert not thread.is_alive(), "a reader or writer hangs"

    def moved_on(self, what="the readers and writers"):
        writes, fills = self.writes, self.fills()
        eventually(f"{what} go on", lambda: self.writes > writes + 20 and self.fills() > fills + 20, 60)

    def write(self, source, ended, connection):
        with connection.cursor() as cursor:
            while not ended.is_set():
                if self.resting.is_set():
                    self.rested.set()
                    ended.wait(0.01)
                    continue
                table = source.choice(["plain_items", "items"])
                if self.many:  # so that readers have much to fill
                    cursor.execute(f"update {table} set n = n + 1 where id %% 20 = %s", (source.randrange(20),))
                elif source.random() < 0.1:
                    cursor.execute(f"update {table} set shelf = %s, n = n + 1 where id = %s", (source.randrange(SHELVES), source.randint(1, ROWS)))
                else:
                    cursor.execute(f"update {table} set n = n + 1 where id = %s", (source.randint(1, ROWS),))
                self.writes += 1
                ended.wait(self.pause)

    def read_plain(self, source, ended, connection):
        client = self.cluster.client()
        with connection.cursor() as cursor:
            while not ended.is_set():
                is_shelf, number = source.random() < 0.3, source.randint(1, ROWS)
                key = f"plainlist:{number % SHELVES}" if is_shelf else f"plain:{number}"
                if client.get(key) is not None:
                    self.hits += 1
                    continue
                began = time.monotonic()
                value = plain_value(cursor, key)
                if time.monotonic() - began > PATIENCE:
                    continue
                try:
                    client.set(key, value)
                    if is_shelf:  # after the value: a walk in between deletes a value that is not listed yet
                        client.sadd(f"tag:plainshelf:{number % SHELVES}", key)
                except TROUBLE:
                    self.take_out(key)
                    raise
                if time.monotonic() - began > 2 * PATIENCE:
                    self.take_out(key)
                self.plain_fills += 1

    def take_out(self, key):
        """A reader that does not know when its value arrived."""
        while not self.reading.is_set() or self.failure is None:
            with contextlib.suppress(*TROUBLE):
                # Twice: what was under way on a link that froze may arrive together with the first.
                self.cluster.client().delete(key)
                self.cluster.client().delete(key)
                return
            time.sleep(0.05)

    def read_checked(self, source, ended, connection):
        # redis-py 4.3 cannot get to know nodes that are new: whoever met trouble begins with a new client.
        cache = evictd_reader.Cache(self.cluster.client(), evictd_reader.psycopg("connection"), ttl=3600, lease=0.5, wait=0.05)
        self.caches.append(cache)
        cached = cache.cached
        item = cached("item:{number}", ttl=3600)(lambda connection, number: item_value(connection, number))
        shelf = cached("list:{number}", tags=["shelf:{number}"], ttl=3600)(lambda connection, number: list_value(connection, number))
        while not ended.is_set() and not cache.counts.get("redis_errors"):
            if source.random() < 0.3:
                shelf(connection, source.randrange(SHELVES))
            else:
                item(connection, source.randint(1, ROWS))


class NativeReaders:
    """Checked readers of another kind, and many: tests/readers/race/cluster_readers.cpp."""

    def __init__(self, postgres, cluster):
        ports = ",".join(str(cluster.port_of(index)) for index in range(3))
        self.process = subprocess.Popen([daemon.binary("cluster_readers"), postgres.url(), ports, "8", str(ROWS), str(SHELVES)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.last = {"fills": 0}
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            self.last = json.loads(line)

    def fills(self):
        assert self.process.poll() is None, f"cluster_readers ended with {self.process.returncode}"
        return self.last["fills"]

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait(60) == 0
        print(self.last)


def scalar(cursor, statement, number):
    cursor.execute(statement, (number,))
    return cursor.fetchone()[0]


def plain_value(cursor, key):
    what, number = key.split(":")
    if what == "plain":
        return scalar(cursor, "select shelf || '/' || n from plain_items where id = %s", int(number))
    return scalar(cursor, "select coalesce(string_agg(id || '=' || n, ' ' order by id), '') from plain_items where shelf = %s", int(number))


def item_value(connection, number):
    with connection.cursor() as cursor:
        return scalar(cursor, "select shelf || '/' || n from items where id = %s", number)


def list_value(connection, number):
    with connection.cursor() as cursor:
        return scalar(cursor, "select coalesce(string_agg(id || '=' || n, ' ' order by id), '') from items where shelf = %s", number)


def differences(postgres, cluster):
    """Every cached value that is not its row's, and how many were looked at."""
    client = cluster.client()
    connection = postgres.connect()
    found, looked = [], {"plain": 0, "plainlist": 0, "item": 0, "list": 0}
    with connection.cursor() as cursor:
        for index in cluster.masters():
            for raw in cluster.nodes[index].client().scan_iter(count=1000):
                key = raw.decode()
                if key.startswith(("evictd:", "tag:", "untouched")):
                    continue
                cached = client.get(key)
                if cached is None:
                    continue
                what, number = key.split(":")
                looked[what] += 1
                if what in ("item", "list"):
                    row = evictd_reader.JSON.dumps((item_value if what == "item" else list_value)(connection, int(number)))
                else:
                    row = plain_value(cursor, key)
                row = row if isinstance(row, bytes) else row.encode()
                if cached != row:
                    found.append(f"{key}: cached {cached[:80]!r}, the row says {row[:80]!r}; marker {client.get(f'evictd:{{{key}}}')!r}")
    connection.close()
    return found, looked


def assert_equal(postgres, evictd, cluster):
    """While nobody writes."""
    cluster.wait_until_well()
    evictd.wait_until_ready(60)
    oracle.wait_until_acknowledged(postgres, evictd.slot, 60)
    oracle.converge(postgres, evictd)
    found, looked = differences(postgres, cluster)
    assert not found, "the cache does not tell the truth:\n  " + "\n  ".join(found[:20])
    return looked


def assert_true(postgres, evictd, cluster, load):
    load.stop_writers()
    cluster.wait_until_well()
    evictd.wait_until_ready(60)
    oracle.wait_until_acknowledged(postgres, evictd.slot, 60)
    load.stop()
    looked = assert_equal(postgres, evictd, cluster)
    assert looked["plain"] > 20 and looked["item"] > 20 and looked["list"] > 2, looked
    client = cluster.client()
    assert all(client.get(f"untouched:{i}") == b"x" for i in range(50)), "what no rule names was touched"


@pytest.fixture
def cluster(folder, request):
    made = clusters.Cluster(f"{folder}/cluster", **getattr(request, "param", {}))
    client = made.client()
    for i in range(50):
        client.set(f"untouched:{i}", "x")
    yield made
    print("\n".join(line for index in made.running() for line in made.lines(index) if "myself" in line))
    made.stop()


@pytest.fixture
def database(make_postgres):
    server = make_postgres(with_shop=False)
    server.execute("create database shop", database="postgres")
    server.execute(SCHEMA)
    return server


@pytest.fixture
def make_daemon(folder, database, cluster):
    made = []

    def make(url=None, rules=RULES, redis_more="", **more):
        one = daemon.Evictd(f"{folder}/evictd{len(made)}", database.url(), url or cluster.url(), rules,
                            redis_more=f"tombstone_ttl: 30s\ntimeout: 2s\n{redis_more}", **more)
        made.append(one)
        return one

    yield make
    for one in made:
        if one.is_running():
            print(one.http("/status"))
            one.kill()
        if os.path.exists(one.log):
            print(f"--- the end of {one.log}\n{one.log_tail(80)}")


def any_master(cluster, source):
    """One with a replica that is in step."""
    cluster.wait_until_well()
    return source.choice([master for master in cluster.masters() if cluster.replica_of(master) is not None])


def killed(cluster, source):
    """kill -9: the replica takes over, and what was the master comes back as its replica."""
    master = any_master(cluster, source)
    replica = cluster.replica_of(master)
    cluster.kill(master)
    eventually("the replica has taken over", lambda: replica in cluster.masters(replica), 60)
    cluster.restart(master)


def stands_still(cluster, source):
    """Long enough to be replaced; then it goes on, and is told."""
    master = any_master(cluster, source)
    replica = cluster.replica_of(master)
    cluster.pause(master)
    eventually("the replica has taken over", lambda: replica in cluster.masters(replica), 60)
    cluster.resume(master)


def stands_still_for_a_moment(cluster, source):
    master = any_master(cluster, source)
    cluster.pause(master)
    time.sleep(0.5)
    cluster.resume(master)


def failed_over_by_hand(cluster, source):
    cluster.fail_over(any_master(cluster, source))


def slots_move_back_and_forth(cluster, source):
    for _ in range(8):
        a, b = source.sample(cluster.masters(), 2)
        slot = cluster.slot_of(source.choice(["item:", "plain:", "tag:shelf:"]) + str(source.randint(1, 15)))
        owner = cluster.owner_of_slot(slot)
        target = b if owner == a else a
        if owner != target:
            cluster.move_slot(slot, owner, target)


def a_link_freezes(cluster, source):
    """For longer than evictd and readers wait for an answer, or for a moment; what it held arrives late, or never."""
    master = source.choice(cluster.masters())
    cluster.freeze_link(master)
    time.sleep(source.choice([0.3, 3]))
    cluster.thaw_link(master, cut=source.random() < 0.5)


def a_master_joins_and_leaves(cluster, source):
    cluster.wait_until_well()
    joined = cluster.add_master()
    slots = [cluster.slot_of(f"item:{source.randint(1, ROWS)}") for _ in range(5)]
    owners = {slot: cluster.owner_of_slot(slot) for slot in slots}
    for slot, owner in owners.items():
        cluster.move_slot(slot, owner, joined)
    time.sleep(source.random())
    for slot, owner in owners.items():
        cluster.move_slot(slot, joined, owner)
    cluster.wait_until_well()
    cluster.remove_master(joined)


FAULTS = [failed_over_by_hand, slots_move_back_and_forth, killed, stands_still, stands_still_for_a_moment,
          a_master_joins_and_leaves, a_link_freezes]


@pytest.mark.parametrize("cluster", [{"with_links": True}], indirect=True)
def test_everything_that_happens_to_a_cluster(database, cluster, make_daemon, seed):
    evictd = make_daemon().start()
    source = random.Random(seed)
    load = Load(database, cluster, seed, pause=0.01 if soak() else 0.002, many=soak()).start()
    wanted = 200_000 if soak() else 0
    rounds = fills = compared = 0
    while rounds == 0 or fills < wanted:
        rounds += 1
        faults = source.sample(FAULTS, len(FAULTS)) if soak() else [failed_over_by_hand, slots_move_back_and_forth, a_link_freezes, killed]
        for fault in faults:
            fault(cluster, source)
            print(f"{time.strftime('%H:%M:%S')} {fault.__name__}, {load.fills()} checked fills")
            load.moved_on(f"after '{fault.__name__}' readers and writers")
        cluster.wait_until_well()
        eventually("evictd is ready again", evictd.is_ready, 60)
        if not soak():
            break
        load.rest()
        fills = load.fills()
        compared += sum(assert_equal(database, evictd, cluster).values())
        load.go_on()
    print(f"{load.writes} writes, {load.fills()} checked fills, {load.plain_fills} plain fills in {rounds} rounds, {compared} values compared in between")
    assert_true(database, evictd, cluster, load)


@pytest.mark.parametrize("cluster", [{"masters": 1, "replicas_each": 2}], indirect=True)
def test_who_took_the_place_of_the_only_master_is_learnt_from_its_replicas(database, cluster, make_daemon):
    eventually("the master tells of its replicas", lambda: len(cluster.ask(0, "CLUSTER", "SLOTS")[0]) == 2 + 3)
    evictd = make_daemon(f"redis://127.0.0.1:{cluster.nodes[0].port}").start()
    client = cluster.client()
    client.set("plain:1", "as it was")
    eventually("a replica has it", lambda: all(cluster.ask(index, "DBSIZE") == cluster.ask(0, "DBSIZE") for index in (1, 2)))
    cluster.kill(0)
    cluster.ask(1, "CLUSTER", "FAILOVER", "TAKEOVER")
    database.execute("update plain_items set n = n + 1 where id = 1")
    eventually("what is stale is gone from the new master", lambda: cluster.ask(1, "EXISTS", "plain:1") == 0, 60)
    evictd.wait_until_ready()


@pytest.mark.parametrize("cluster", [{"masters": 3, "replicas_each": 0}], indirect=True)
def test_a_master_that_was_reset_leaves_slots_that_nobody_serves(database, cluster, make_daemon):
    evictd = make_daemon().start()
    gone = cluster.owner_of("plain:1")
    first, last = next((first, last) for first, last, master, *_ in cluster.ask(gone, "CLUSTER", "SLOTS") if master[2].decode() == cluster.ids[gone])
    cluster.reset(gone)
    database.execute("update plain_items set n = n + 1")

    def says_so():
        code, text = evictd.http("/readyz")
        assert code == 503 and f"no node of the cluster serves the slots {first}-{last}" in text, text
        return True

    eventually("evictd says which slots nobody serves", says_so, 30)
    assert f"no node of the cluster serves the slots {first}-{last}" in evictd.log_text()
    # As a person does it: the node comes back as another one, and gets the slots.
    others = [index for index in cluster.running() if index != gone]
    for other in others:
        cluster.ask(other, "CLUSTER", "FORGET", cluster.ids[gone])
    cluster.ids[gone] = cluster.ask(gone, "CLUSTER", "MYID").decode()
    cluster.ask(gone, "CLUSTER", "ADDSLOTSRANGE", first, last)
    cluster.ask(gone, "CLUSTER", "SET-CONFIG-EPOCH", 9)
    cluster.ask(others[0], "CLUSTER", "MEET", "127.0.0.1", cluster.nodes[gone].port, cluster.bus_ports[gone])
    cluster.wait_until_well()
    evictd.wait_until_ready(60)
    oracle.converge(database, evictd)


@pytest.mark.parametrize("cluster", [{"masters": 3, "replicas_each": 1}], indirect=True)
def test_the_rights_that_are_printed_are_enough(database, cluster, make_daemon):
    evictd = make_daemon(cluster.url().replace("redis://", "redis://evictd:secret@"), redis_more="replicas_ack: 1")
    told = evictd.command("check", "--acl")
    assert told.returncode == 0 and "on each of its nodes" in told.stderr, told.stderr
    for_run, for_check = told.stdout.splitlines()
    one = make_daemon(f"redis://127.0.0.1:{cluster.nodes[0].port}", redis_more="replicas_ack: 1")
    assert one.command("check", "--acl").stdout == told.stdout, "one address is enough, when somebody answers there"

    def give(*lines):
        for index in cluster.running():
            for line in lines:
                cluster.nodes[index].client().execute_command(*shlex.split(line.replace("PASSWORD", "secret")))

    give(for_run, for_check)
    checked = evictd.command("check", "--json")
    assert '"RD0' not in checked.stdout.replace('"RD009"', "").replace('"RD006"', "").replace('"RD005"', ""), checked.stdout
    give(for_run.replace(" +cluster|nodes", ""), for_check)
    assert "may not run CLUSTER NODES" in evictd.command("check").stdout
    give(for_run)  # it begins with 'reset'
    for index in cluster.running():
        cluster.nodes[index].client().execute_command("ACL", "LOG", "RESET")
    evictd.start()
    client = cluster.client()

    def gone_after(statement, *keys):
        for key in keys:
            client.set(key, "x")
        database.execute(statement)
        eventually(f"{keys} are gone after {statement}", lambda: not any(client.exists(key) for key in keys))

    client.sadd("tag:plainshelf:3", "plain:99")
    client.zadd("tag:shelf:3", {"item:99": 1e15})
    gone_after("update plain_items set n = n + 1 where shelf = 3", "plain:3", "plain:99")
    gone_after("update items set n = n + 1 where shelf = 3", "item:3", "item:99")
    # A slot that moves: ASK, for a key that is not there any more.
    slot = cluster.slot_of("plain:5")
    owner = cluster.owner_of_slot(slot)
    target = next(master for master in cluster.masters() if master != owner)
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ids[owner])
    cluster.ask(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ids[target])
    database.execute("update plain_items set n = n + 1 where id = 5")
    oracle.wait_until_acknowledged(database, evictd.slot)
    cluster.move_slot(slot, owner, target)
    cluster.wait_until_well()
    gone_after("truncate plain_items", "plain:7", "plain:5")
    oracle.wait_until_acknowledged(database, evictd.slot)
    for index in cluster.running():
        refused = [entry for entry in cluster.nodes[index].client().execute_command("ACL", "LOG") if b"evictd" in str(entry).encode()]
        assert refused == [], refused
    assert evictd.stop() == 0
