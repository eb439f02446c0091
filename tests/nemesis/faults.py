"""What the nemesis does. Each fault is a generator: up to `yield` it is done, after it it is undone; in between the application
works on for as long as the schedule says. Arguments are drawn once, by the schedule, so that a seed repeats them."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time

import psycopg2
import redis as redis_client

from harness import servers
from harness.waiting import eventually
from world import EXTRA, LINES, NOTES, PARTS

FAULTS = {}


class Fault:
    def __init__(self, name, act, touches, draw, hold, world, source, weight):
        self.name, self.act, self.touches, self.draw, self.hold, self.world, self.source, self.weight = (
            name, act, touches, draw, hold, world, source, weight)


def fault(name, *touches, draw=lambda choice: {}, hold=(0.2, 3.0), world="any", source="any", weight=1):
    """`touches`: what no other fault may touch meanwhile. `world`: single, sentinel, cluster, faketime, second or any.
    `source`: postgres, kafka, visibility (where evictd asks the database what others can see) or any."""
    def register(act):
        FAULTS[name] = Fault(name, act, set(touches), draw, hold, world, source, weight)
        return act
    return register


def start_again(world):
    for one in world.members():
        if not one.is_running():
            one.start(ready=False)


# evictd.

@fault("kill evictd", "evictd", weight=2)
def kill_evictd(world):
    world.evictd.kill()
    yield
    start_again(world)


@fault("stop evictd", "evictd")
def stop_evictd(world):
    code = world.evictd.stop(patience=30)
    if code != 0:
        world.fail(f"asked to stop, evictd ended with {code}")
    yield
    start_again(world)


@fault("freeze evictd", "evictd", hold=(0.5, 5))
def freeze_evictd(world):
    world.evictd.signal(signal.SIGSTOP)
    yield
    world.evictd.signal(signal.SIGCONT)


@fault("another evictd takes over", "evictd", hold=(0, 1))
def take_over(world):
    first, second = world.evictd, world.make_evictd()
    second.start(ready=False)
    yield
    world.source.change_hands()
    first.kill()
    world.evictd = second


def limit(pid, what, most):
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, hard))
    return soft, hard


@fault("no descriptors for evictd", "evictd", "way to postgres", "way to redis", "way to kafka", draw=lambda choice: {"spare": choice.randrange(4)}, hold=(1, 4))
def few_descriptors(world, spare):
    eventually("evictd has begun", lambda: world.evictd.http("/livez")[0] != 0 or not world.evictd.is_running(), 30)
    pid = world.evictd.process.pid
    try:
        before = limit(pid, resource.RLIMIT_NOFILE, 3 + spare)
    except PermissionError:
        before = None
    for proxy in world.ways():
        proxy.tell("cut")
    yield
    if before is not None and world.evictd.is_running():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@fault("no memory for evictd", "evictd", "way to postgres", draw=lambda choice: {"spare": choice.choice([0, 1, 4]) << 20}, hold=(0.5, 3))
def little_memory(world, spare):
    """It may end: a supervisor starts it again."""
    if world.sanitizer:  # it has laid its hands on terabytes of addresses, and ends where it gets no more
        yield
        return
    pid = world.evictd.process.pid
    try:
        before = limit(pid, resource.RLIMIT_AS, world.evictd.memory_bytes("VmSize") + spare)
    except PermissionError:
        before = None
    world.to_postgres.tell("cut")
    yield
    if not world.evictd.is_running():
        world.say(f"evictd ended with {world.evictd.process.returncode}")
    elif before is not None:
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    start_again(world)


@fault("the clock jumps", "clock", draw=lambda choice: {"seconds": choice.choice([-86400, -3600, -60, -1, 1, 60, 3600, 86400, 10**8])},
       hold=(1, 4), world="faketime", weight=6)
def clock_jumps(world, seconds):
    world.allow("clock", 10**9)  # lag in seconds is by the clocks of two machines; deletes are not
    world.set_clock(seconds)
    yield
    world.set_clock(0)
    world.allow("clock", 10**9, lasting=6)


def hang_up(world):
    """To a process that has come as far as to know what that means: before, it ends it."""
    for one in world.members():
        eventually("evictd listens", lambda one=one: one.http("/livez")[0] != 0 or not one.is_running(), 30)
        one.signal(signal.SIGHUP)


@fault("a broken rules file", "rules", "evictd", hold=(0.2, 1))
def broken_rules(world):
    world.write_rules(world.rules + "- {table: items, kyes: ['x:{id}']}\n")
    hang_up(world)
    yield
    world.write_rules(world.rules)
    hang_up(world)


@fault("a rule goes and comes back", "rules", "evictd", draw=lambda choice: {"restart": choice.choice(["no", "when gone", "when back"])})
def rule_goes(world, restart):
    with_extra = world.rules
    world.extra_is_on = False
    world.rules = with_extra.removesuffix(EXTRA)
    world.write_rules(world.rules)
    reload(world, restart == "when gone")
    yield
    world.rules = with_extra
    world.write_rules(world.rules)
    reload(world, restart == "when back")
    world.allow("rules", 15, lasting=15)
    world.extra_is_on = True


def reload(world, by_restart):
    if by_restart:
        for one in world.members():
            one.kill()
            one.start(ready=False)
    else:
        hang_up(world)


# The network.

# A way that swallows everything keeps the stream's sender, and with it a server that is to stop, until wal_sender_timeout (60 s).
SENDER_GONE = 90
WAYS = ["cut", "refuse", "hole", "slice 3", "slice 1", "delay 50", "delay 300"]


def bad_way(proxy, how):
    proxy.tell(how)
    yield
    proxy.tell("pass")
    proxy.tell("cut")


@fault("a bad way to postgres", "way to postgres", weight=3,
       draw=lambda choice: {"how": choice.choice([*WAYS, f"cut_after {choice.randint(1, 20000)}"])})
def bad_way_to_postgres(world, how):
    if how in ("hole", "slice 1", "slice 3"):
        world.source.silence()
    yield from bad_way(world.to_postgres, how)
    world.source.silence(lasting=3)


@fault("a bad way to redis", "way to redis", world="single", weight=3,
       draw=lambda choice: {"how": choice.choice([*WAYS, f"cut_after {choice.randint(1, 3000)}"])})
def bad_way_to_redis(world, how):
    yield from bad_way(world.to_redis, how)


# PostgreSQL.

@fault("restart postgres", "sql", "postgres", draw=lambda choice: {"mode": choice.choice(["fast", "immediate"])}, hold=(0, 2), weight=2)
def restart_postgres(world, mode):
    world.postgres.stop(mode, patience=SENDER_GONE)
    yield
    world.postgres.start()


@fault("commits hang", "sql", "standby names", hold=(0.5, 5), source="visibility")
def commits_hang(world):
    world.sql("alter system set synchronous_standby_names = 'nobody'")
    world.sql("select pg_reload_conf()")
    yield
    world.sql("alter system reset synchronous_standby_names")
    world.sql("select pg_reload_conf()")


def walsenders(world):
    return [row[0] for row in world.sql(f"select active_pid from pg_replication_slots where slot_name = '{world.source.slot}' and active_pid is not null")]


@fault("a process of postgres dies", "sql", "postgres", hold=(0, 1), draw=lambda choice: {"who": choice.choice(["walsender", "checkpointer", "client backend"])})
def a_process_dies(world, who):
    for (pid,) in world.sql(f"select pid from pg_stat_activity where backend_type = '{who}' and pid <> pg_backend_pid() limit 1"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # a client that has just gone by itself
    yield
    eventually("PostgreSQL has recovered", world.postgres._answers, 60)  # pylint: disable=protected-access


@fault("the walsender is terminated", "postgres", hold=(0, 1))
def terminated(world):
    world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null")
    yield


@fault("the walsender stands still", "postgres", hold=(0.5, 5))
def walsender_stands(world):
    world.source.silence()
    pids = walsenders(world)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    world.source.silence(lasting=3)


@fault("the slot is lost", "sql", "postgres", "evictd", hold=(0, 2), source="postgres",
       draw=lambda choice: {"how": choice.choice(["dropped", "dropped while running", "made anew", "read by another", "too much WAL"])}, weight=2)
def slot_is_lost(world, how):
    if how == "dropped while running":
        def dropped():
            world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'evictd' and active_pid is not null")
            return world.sql("select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots where slot_name = 'evictd' and active_pid is null",
                             expect=(psycopg2.errors.ObjectInUse, psycopg2.errors.UndefinedObject)) not in (None, [(0,)])
        eventually("the slot is dropped", dropped, 20, every=0.001)
        yield
        return
    world.evictd.kill()
    eventually("nobody has the slot", lambda: not walsenders(world), SENDER_GONE)
    if not world.sql("select 1 from pg_replication_slots where slot_name = 'evictd'"):
        pass  # there was none yet
    elif how in ("dropped", "made anew"):
        world.sql("select pg_drop_replication_slot('evictd')", expect=psycopg2.errors.UndefinedObject)
    elif how == "read by another":
        time.sleep(0.3)
        world.sql("select count(*) from pg_logical_slot_get_binary_changes('evictd', null, null, 'proto_version', '1', 'publication_names', 'evictd')",
                  expect=psycopg2.Error)
    else:
        world.sql("alter system set max_slot_wal_keep_size = '1MB'")
        world.sql("select pg_reload_conf()")
        for _ in range(4):
            world.sql("select pg_switch_wal(), pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
        world.sql("checkpoint")
        world.sql("alter system reset max_slot_wal_keep_size")
        world.sql("select pg_reload_conf()")
    yield
    if how == "made anew":
        world.sql("select pg_create_logical_replication_slot('evictd', 'pgoutput')", expect=psycopg2.errors.DuplicateObject)
    start_again(world)


def copy_data(postgres, where):
    shutil.rmtree(where, ignore_errors=True)
    subprocess.run(["cp", "-a", postgres.data, where], check=True)


@fault("postgres comes back with older data", "sql", "postgres", "schema", "slots", hold=(0.3, 3), source="postgres")
def older_postgres(world):
    """A backup that was taken with the server stopped is put back: positions and transactions are given away once more. Evictd
    has followed the server for a moment in between: of a past that it has never seen nobody can tell it that it is gone."""
    kept = f"{world.postgres.folder}/kept"
    world.postgres.stop("fast", patience=SENDER_GONE)
    copy_data(world.postgres, kept)
    world.postgres.start()
    mark = world.sql("select pg_logical_emit_message(true, 'test', 'mark')::text")[0][0]
    yield
    try:
        eventually("evictd has followed it", lambda: world.sql(
            f"select 1 from pg_replication_slots where slot_name = 'evictd' and confirmed_flush_lsn >= '{mark}'"), 10, every=0.1)
    except AssertionError:
        world.say("left undone: evictd has not followed it")
        shutil.rmtree(kept)
        return
    world.postgres.stop("immediate", patience=40)
    shutil.rmtree(world.postgres.data)
    os.rename(kept, world.postgres.data)
    world.postgres.start()
    world.tell_postgres_its_password()


@fault("a standby is promoted", "sql", "postgres", "schema", "slots", "way to postgres", hold=(0.3, 2), source="postgres",
       draw=lambda choice: {"slot": choice.choice(["none", "late"]), "cut_off": choice.random() < 0.5})
def standby_is_promoted(world, slot, cut_off):
    """Asynchronous: what the primary committed last may be lost. Evictd and the application find the new one under the old name."""
    old = world.postgres
    world.standbys += 1
    standby = Standby(f"{world.folder}/postgres{world.standbys}", old).start()
    yield
    if cut_off:
        standby.sql_alone("alter system set primary_conninfo = 'host=127.0.0.1 port=1'")
        standby.sql_alone("select pg_reload_conf()")
        time.sleep(0.3)  # the application goes on meanwhile: that is what is lost
    old.stop("immediate", patience=40)
    standby.sql_alone("select pg_promote()")
    eventually("the standby is promoted", lambda: not standby.sql_alone("select pg_is_in_recovery()"), 40)
    world.postgres = standby
    world.tell_postgres_its_password()
    if slot == "late":
        world.sql("select pg_create_logical_replication_slot('evictd', 'pgoutput')", expect=psycopg2.errors.DuplicateObject)
    world.to_postgres.tell(f"target {standby.port}")


class Standby(servers.Postgres):
    def __init__(self, folder, primary):
        self.primary = primary
        super().__init__(folder, {"hot_standby": "on"})

    def _initialise(self):
        as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        eventually("a copy of the primary is made", self._copied(as_owner), 60, every=0.2)
        self._configure()

    def _copied(self, as_owner):
        def copied():
            shutil.rmtree(self.data, ignore_errors=True)
            done = subprocess.run([*as_owner, f"{self.programs}/pg_basebackup", "-D", self.data, "-d", self.primary.url("postgres"), "-R",
                                   "-c", "fast", "--no-sync"], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False)
            assert done.returncode == 0, done.stderr
            return True
        return copied

    def sql_alone(self, statement):
        return self.value(statement, database="postgres")


@fault("truncate", "sql", "schema", draw=lambda choice: {"table": choice.choice(["items", "notes", "settings", "parts", "parts_1", "lines", "labels"])}, hold=(0, 0.5))
def truncate(world, table):
    if table == "parts_1":
        if not world.source.asks_database:
            table = "parts"  # of a partition alone, a publication of roots tells nothing
        world.allow("schema", 15, lasting=15)
    world.sql(f"truncate {table}")
    yield
    refill(world, table)


def refill(world, table):
    if table == "items":
        world.sql("insert into items select i, i % 5, (extract(epoch from clock_timestamp()) * 1000)::bigint, 'body' from generate_series(1, 40) i "
                  "on conflict do nothing")
    elif table == "notes":
        world.sql(f"insert into notes select i, clock_timestamp()::text from generate_series(1, {NOTES}) i on conflict do nothing")
    elif table == "lines":
        world.sql(f"insert into lines select i, i % 40 + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint from generate_series(1, {LINES}) i "
                  "on conflict do nothing")
    elif table == "labels":
        world.sql("insert into labels select i, clock_timestamp()::text from generate_series(0, 4) i on conflict do nothing")
    elif table.startswith("parts"):
        world.sql(f"insert into parts select i, i % 2, (extract(epoch from clock_timestamp()) * 1000)::bigint from generate_series(1, {PARTS}) i "
                  "on conflict do nothing", expect=psycopg2.errors.CheckViolation)


# Evictd looks at the catalogue every five seconds: what changed without a row in the stream is known then (docs/rules.md).
SCHEMA_CHANGES = {
    "rewrite": ("alter table items alter column body type text using left(body, 20) || '+'", None),
    "rewrite notes": ("alter table notes alter column body type varchar(200) using left(body, 150) || '!'", "alter table notes alter column body type text"),
    "rename": ("alter table items rename column body to other", "alter table items rename column other to body"),
    "swap columns": ("alter table items add column spare text default 'spare'; alter table items rename column body to old; alter table items rename "
                     "column spare to body", "alter table items drop column old"),
    "identity": ("alter table items replica identity default", "alter table items replica identity full"),
    "vacuum full": ("vacuum full items", None),
    "make anew": ("begin; alter table notes rename to was; create table notes (id integer primary key, body text not null); "
                  "insert into notes select id, body || '*' from was where id % 2 = 0; drop table was; commit", None),
    "make lines anew": ("begin; alter table lines rename to was; create table lines (id integer primary key, item integer not null, quantity bigint not null); "
                        "alter table lines replica identity full; insert into lines select id, item, quantity + 1 from was where id % 3 = 0; drop table was; commit", None),
    "labels of another type": ("alter table labels alter column label type varchar(200) using left(label, 150) || '!'", "alter table labels alter column label type text"),
    "add column": ("alter table notes add column more integer default 7", "alter table notes drop column more"),
    "unlogged": ("alter publication evictd drop table notes; alter table notes set unlogged; update notes set body = clock_timestamp()::text; "
                 "alter table notes set logged", None),
    "hidden update": ("set session_replication_role = replica; update items set version = version + 1", None),
}


@fault("the schema changes", "sql", "schema", draw=lambda choice: {"what": choice.choice(list(SCHEMA_CHANGES))}, source="postgres", weight=2)
def schema_changes(world, what):
    there, back = SCHEMA_CHANGES[what]
    world.allow("schema", 15)
    statements(world, there)
    yield
    if back is not None:
        statements(world, back)
    world.allow("schema", 15, lasting=15)


# What another fault has already made impossible is left undone.
IMPOSSIBLE = (psycopg2.ProgrammingError, psycopg2.errors.ObjectNotInPrerequisiteState, psycopg2.errors.InvalidParameterValue,
              psycopg2.errors.ObjectInUse)


def statements(world, text):
    if text.startswith("begin;"):
        world.sql(text, expect=IMPOSSIBLE)
        return
    for statement in text.split(";"):
        world.sql(statement, expect=IMPOSSIBLE)


PUBLICATION_CHANGES = {
    "without a table": ("alter publication evictd drop table items", None),
    "dropped": ("drop publication evictd", None),
    "inserts alone": ("alter publication evictd set (publish = 'insert')", "alter publication evictd set (publish = 'insert, update, delete, truncate')"),
    "only some rows": ("alter publication evictd set table items where (id < 5), notes, settings, parts, lines, labels",
                       "alter publication evictd set table items, notes, settings, parts, lines, labels"),
    "another table": ("alter publication evictd add table filler", "alter publication evictd drop table filler"),
}


@fault("the publication changes", "sql", "schema", draw=lambda choice: {"what": choice.choice(list(PUBLICATION_CHANGES))}, hold=(0.2, 2), source="postgres")
def publication_changes(world, what):
    there, back = PUBLICATION_CHANGES[what]
    world.allow("schema", 15)
    statements(world, there)
    yield
    if back is not None:
        statements(world, back)
    world.allow("schema", 15, lasting=15)


@fault("partitions change", "sql", "schema", draw=lambda choice: {"how": choice.choice(["detach and change", "drop and make", "a new one", "swap"])},
       hold=(0.1, 2), source="postgres")
def partitions_change(world, how):
    """The statements of one way fail where another has been before: all of it is left undone then."""
    world.allow("schema", 15)
    steps = change_partitions(world, how)
    try:
        next(steps, None)
        yield
        next(steps, None)
    except psycopg2.Error as error:
        world.say(f"left undone: {str(error).splitlines()[0]}")
    world.allow("schema", 15, lasting=15)


def change_partitions(world, how):
    if how == "detach and change":
        world.sql("alter table parts detach partition parts_1")
        world.sql("update parts_1 set version = version + 7")
        yield
        world.sql("delete from parts_1 where exists (select from parts p where p.id = parts_1.id and p.region = 1)")
        world.sql("alter table parts attach partition parts_1 for values in (1)")
    elif how == "drop and make":
        world.sql("drop table parts_1")
        yield
        world.sql("create table parts_1 partition of parts for values in (1)")
        world.sql("alter table parts_1 replica identity full")
    elif how == "a new one":
        world.sql("create table if not exists parts_2 partition of parts for values in (2)")
        world.sql("alter table parts_2 replica identity full")
        world.sql("insert into parts select i, 2, (extract(epoch from clock_timestamp()) * 1000)::bigint from generate_series(1, 5) i on conflict do nothing")
        yield
        world.sql("update parts set version = version + 1 where region = 2")
    else:
        world.sql("create table parts_new (like parts_0 including all); alter table parts_new replica identity full; "
                  "insert into parts_new select id, region, version + 100 from parts_0")
        yield
        world.sql("begin; alter table parts detach partition parts_0; alter table parts attach partition parts_new for values in (0); "
                  "drop table parts_0; alter table parts_new rename to parts_0; commit")


class Session:
    """A transaction that stays open while other things happen. A server that goes away ends it."""

    def __init__(self, world):
        self.connection = world.connect(autocommit=False)
        self.cursor = self.connection.cursor()

    def run(self, statement):
        try:
            self.cursor.execute(statement)
        except psycopg2.Error:
            pass

    def end(self, statement):
        try:
            self.run(statement)
            self.connection.close()
        except psycopg2.Error:
            pass


@fault("a transaction stays open", "sql", "schema", draw=lambda choice: {"end": choice.choice(["commit", "rollback"])}, hold=(0.5, 5))
def long_transaction(world, end):
    try:
        session = Session(world)
    except psycopg2.OperationalError:
        return  # the server is away, by another fault
    session.run("insert into filler values ('x')")
    session.run("update items set version = version + 1 where id = 40")
    yield
    session.end(end)


@fault("a prepared transaction", "sql", "schema", draw=lambda choice: {"end": choice.choice(["commit", "rollback"])}, hold=(0.5, 5))
def prepared(world, end):
    world.sql("begin; update items set version = version + 1 where id between 30 and 32; prepare transaction 'held'",
              expect=(psycopg2.errors.DuplicateObject,))
    yield
    world.sql(f"{end} prepared 'held'", expect=(psycopg2.errors.UndefinedObject,))


@fault("a large transaction", "sql", "size", draw=lambda choice: {"rows": choice.choice([1_000, 20_000])}, hold=(0, 1))
def large_transaction(world, rows):
    world.sql(f"do $$ begin for i in 1..{rows // 40} loop update items set version = version + 1; end loop; end $$", expect=psycopg2.errors.QueryCanceled)
    yield


@fault("postgres can write no file", "sql", "postgres", hold=(0.3, 2))
def postgres_full(world):
    """As a full disk: the server stops with a panic at its next piece of WAL, or not at all."""
    pids = [world.postgres.process.pid, *children(world.postgres.process.pid)]
    for pid in pids:
        try:
            limit(pid, resource.RLIMIT_FSIZE, 1 << 20)
        except (ProcessLookupError, PermissionError):
            pass
    try:
        world.postgres.execute("select pg_switch_wal()")
    except psycopg2.Error:
        pass
    yield
    world.postgres.stop("immediate", patience=40)
    world.postgres.start()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@fault("passwords change", "sql", "passwords", "way to postgres", "way to redis", "redis", hold=(0.1, 1),
       draw=lambda choice: {"files_first": choice.random() < 0.5, "end_sessions": choice.random() < 0.7})
def passwords_change(world, files_first, end_sessions):
    world.rotate(files_first)
    if end_sessions:
        world.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'nemesis'")
        if world.to_redis is not None:
            world.try_redis(lambda one: one.execute_command("CLIENT", "KILL", "USER", "nemesis"))
    yield


# One Redis.

def dump(world):
    return f"{world.redis.folder}/dump.rdb"


def kill_redis(world, how):
    if how == "data":
        try:
            world.redis.client().execute_command("shutdown", "save")
        except redis_client.RedisError:
            pass
        world.redis.process.wait(30)
    else:
        world.redis.stop()


@fault("restart redis", "redis", world="single", draw=lambda choice: {"data": choice.choice(["data", "none", "older"])}, hold=(0.2, 3), weight=3)
def restart_redis(world, data):
    if data == "older":
        eventually("Redis has saved", lambda: world.try_redis(lambda one: one.save()), 30)
        yield
        kill_redis(world, data)
    else:
        kill_redis(world, data)
        if data == "none" and os.path.exists(dump(world)):
            os.remove(dump(world))
        yield
    world.redis.start()
    if os.path.exists(dump(world)):
        os.remove(dump(world))
    world.tell_redis_its_password()


@fault("freeze redis", "redis", world="single", hold=(0.5, 5))
def freeze_redis(world):
    world.redis.process.send_signal(signal.SIGSTOP)
    yield
    world.redis.process.send_signal(signal.SIGCONT)


FORGETS = ["flushall", "function flush", "script flush", "client kill type normal skipme yes", "client kill type pubsub"]


@fault("redis forgets", "redis", draw=lambda choice: {"what": choice.choice(FORGETS)}, hold=(0, 0.5))
def redis_forgets(world, what):
    if world.cluster is None:
        eventually("Redis has forgotten", lambda: world.try_redis(lambda one: one.execute_command(*what.split())), 30)
    else:
        well(world)
        for index in world.cluster.masters():
            world.cluster.ask(index, *what.split())
    yield


REFUSALS = {
    "no replicas": (["config set min-replicas-to-write 1"], ["config set min-replicas-to-write 0"]),
    "read only": (["replicaof 127.0.0.1 1"], ["replicaof no one"]),
    "full": (["config set maxmemory-policy noeviction", "config set maxmemory 1mb"], ["config set maxmemory 0"]),
    "no clients": (["config set maxclients 4"], ["config set maxclients 10000"]),
}


@fault("redis refuses", "redis", world="single", draw=lambda choice: {"how": choice.choice(list(REFUSALS))}, hold=(0.5, 4), weight=2)
def redis_refuses(world, how):
    administrator = world.redis.client()
    enter, leave = REFUSALS[how]
    for command in enter:
        administrator.execute_command(*command.split())
    yield
    for command in leave:
        eventually(f"Redis did '{command}'", lambda command=command: world.try_redis(lambda _: administrator.execute_command(*command.split())), 30)


@fault("redis is busy", "redis", world="single", hold=(0.5, 4))
def redis_busy(world):
    def spin():
        try:
            world.redis.client(socket_timeout=30).eval("while true do end", 0)
        except redis_client.RedisError:
            pass
    administrator = world.redis.client()
    administrator.config_set("busy-reply-threshold", 200)
    spinning = threading.Thread(target=spin, daemon=True)
    spinning.start()
    yield

    def killed():
        try:
            administrator.execute_command("SCRIPT", "KILL")
        except redis_client.RedisError:
            pass
        return not spinning.is_alive()
    eventually("the script is killed", killed, 30)


# Redis behind Sentinels.

def master(world):
    """-> (server object of the master, of the other one)"""
    def asked():
        try:
            port = world.sentinels.asked.sentinels[0].sentinel_master("mymaster")["port"]
        except redis_client.RedisError:
            return None
        pair = [world.sentinels.master, world.sentinels.replica]
        one = next((server for server in pair if server.port == port), None)
        return one and (one, pair[1 - pair.index(one)])
    return eventually("a Sentinel knows the master", asked, 30)


def replicates(world):
    """Both are there, one is the other's replica and in step."""
    def settled():
        try:
            one, other = master(world)
            return (one.client(socket_timeout=2).info("replication")["role"] == "master" and
                    other.client(socket_timeout=2).info("replication").get("master_link_status") == "up" and
                    all(sentinel.sentinel_master("mymaster")["port"] == one.port for sentinel in world.sentinels.asked.sentinels))
        except redis_client.RedisError:
            return False
    eventually("master and replica are as they should be", settled, 60, every=0.2)


@fault("the master dies", "redis", world="sentinel", hold=(2, 5), weight=3)
def master_dies(world):
    replicates(world)
    one, _ = master(world)
    one.stop()
    yield
    restart_as_replica(world, one)
    replicates(world)


def restart_as_replica(world, server):
    def replaced():
        return master(world)[0] is not server
    try:
        eventually("the master is replaced", replaced, 20, every=0.2)
    except AssertionError:
        pass  # it comes back before: then with an empty memory
    server.options = [option for option in server.options if option not in ("--replicaof",)]
    server.options = [] if server.options and server.options[0].startswith("127") else server.options
    server.start()


@fault("the master stands still", "redis", world="sentinel", hold=(0.5, 6), weight=2)
def master_stands(world):
    replicates(world)
    one, _ = master(world)
    one.process.send_signal(signal.SIGSTOP)
    yield
    one.process.send_signal(signal.SIGCONT)
    replicates(world)


@fault("a failover is ordered", "redis", world="sentinel", hold=(0.5, 3))
def failover(world):
    replicates(world)
    try:
        world.sentinels.asked.sentinels[1].execute_command("SENTINEL", "FAILOVER", "mymaster")
    except redis_client.RedisError:
        pass
    yield
    replicates(world)


@fault("the replica lacks the last", "redis", world="sentinel", hold=(0.5, 3), weight=2)
def lagging_replica(world):
    """Cut off, it is promoted with what it had."""
    replicates(world)
    one, other = master(world)
    replica = other.client(socket_timeout=5)
    replica.config_set("masteruser", "nobody")
    replica.config_set("masterauth", "wrong")
    one.client(socket_timeout=5).execute_command("client", "kill", "type", "replica")
    yield
    one.stop()
    restart_as_replica(world, one)
    for server in (one, other):
        try:
            server.client(socket_timeout=5).config_set("masteruser", "")
            server.client(socket_timeout=5).config_set("masterauth", "")
        except redis_client.RedisError:
            pass
    replicates(world)


# Redis Cluster.

def well(world):
    eventually("the cluster is well", lambda: is_well(world), 60, every=0.2)


def is_well(world):
    try:
        return world.cluster.is_well()
    except (redis_client.RedisError, OSError):
        return False


def some_master(world, number):
    """One of the masters that serve a share of the slots, so that it can be replaced."""
    well(world)
    masters = [index for index in world.cluster.masters() if world.cluster.replica_of(index) is not None]
    return masters[number % len(masters)]


@fault("a node dies", "redis", world="cluster", draw=lambda choice: {"number": choice.randrange(6)}, hold=(0.1, 5), weight=4)
def node_dies(world, number):
    """Back at once it is the master still, and empty; later it is a replica."""
    index = some_master(world, number)
    world.cluster.kill(index)
    yield
    world.cluster.restart(index)
    well(world)


@fault("a master is flushed", "redis", world="cluster", draw=lambda choice: {"number": choice.randrange(6)}, hold=(0.1, 2), weight=2)
def master_is_flushed(world, number):
    world.cluster.ask(some_master(world, number), "flushall")
    yield
    well(world)


@fault("a node stands still", "redis", world="cluster", draw=lambda choice: {"number": choice.randrange(6)}, hold=(0.3, 6), weight=3)
def node_stands(world, number):
    index = some_master(world, number)
    world.cluster.pause(index)
    yield
    world.cluster.resume(index)
    well(world)


@fault("a replica takes over", "redis", world="cluster", hold=(0, 2), weight=2,
       draw=lambda choice: {"number": choice.randrange(6), "how": choice.choice([[], ["FORCE"], ["TAKEOVER"]])})
def replica_takes_over(world, number, how):
    world.cluster.fail_over(some_master(world, number), *how)
    yield
    well(world)


@fault("a link freezes", "redis", world="cluster", hold=(0.5, 5), weight=3,
       draw=lambda choice: {"number": choice.randrange(6), "cut": choice.random() < 0.5})
def link_freezes(world, number, cut):
    index = some_master(world, number)
    world.cluster.freeze_link(index)
    yield
    world.cluster.thaw_link(index, cut)
    well(world)


def move_slot(world, slot, source, target):
    """-> False where a replica has taken the target's place meanwhile, as it may on a busy machine."""
    try:
        world.cluster.move_slot(slot, source, target)
    except redis_client.ResponseError as error:
        if "not a master" not in str(error):
            raise
        world.say(f"left undone: node {target} is no master any more")
        return False
    well(world)  # of moves that nobody has heard of yet, Redis itself may lose some: a slot of none, for good
    return True


@fault("slots move", "redis", world="cluster", hold=(0.2, 2), weight=3,
       draw=lambda choice: {"number": choice.randrange(6), "slots": choice.sample(range(1, 41), 5)})
def slots_move(world, number, slots):
    """Slots of keys in use go to another master, and come back."""
    well(world)
    nodes = world.cluster
    homes = {slot: nodes.owner_of_slot(slot) for slot in {nodes.slot_of(f"{kind}:{argument}") for kind in ("plain", "checked", "stale") for argument in slots}}
    away = {}
    for slot, home in homes.items():
        others = [index for index in nodes.masters() if index != home]
        target = others[number % len(others)]
        if move_slot(world, slot, home, target):
            away[slot] = target
    yield
    for slot, target in away.items():
        move_slot(world, slot, target, homes[slot])


# The second cache.

@fault("the second cache dies", "second", world="second", draw=lambda choice: {"data": choice.choice(["data", "none", "older"])}, hold=(0.2, 8), weight=4)
def second_dies(world, data):
    """For long enough, it is parked."""
    one = world.redis_of_second
    kept = f"{one.folder}/dump.rdb"
    if data == "older":
        one.client().save()
        yield
        one.stop()
    elif data == "data":
        try:
            one.client().execute_command("shutdown", "save")
        except redis_client.RedisError:
            pass
        one.process.wait(30)
        yield
    else:
        one.stop()
        yield
    one.start()
    if os.path.exists(kept):
        os.remove(kept)


@fault("the second cache stands still", "second", world="second", hold=(0.5, 8), weight=3)
def second_stands(world):
    world.redis_of_second.process.send_signal(signal.SIGSTOP)
    yield
    world.redis_of_second.process.send_signal(signal.SIGCONT)


@fault("the second cache forgets", "second", world="second", draw=lambda choice: {"what": choice.choice(FORGETS)}, hold=(0, 0.5))
def second_forgets(world, what):
    world.redis_of_second.client().execute_command(*what.split())
    yield
