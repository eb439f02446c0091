"""What the nemesis acts on: servers, evictd, an application with readers of every kind, and what must be true of its cache.

The application is its own oracle: the value of every key can be computed again from the database. Two things are demanded:

  at rest   writers stopped, faults ended, evictd says ready and lag 0: every cached value equals its row
  always    while evictd says ready with a lag near 0, no value stays stale for longer than its kind allows (Watch)
"""

import logging
import os
import random
import re
import shutil
import sys
import threading
import time

import psycopg2
import redis as redis_client
from redis.cluster import RedisCluster

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "faults"))
logging.getLogger("redis.cluster").setLevel(logging.CRITICAL)  # it prints each MOVED that it follows

from harness import cluster, daemon, process, servers  # noqa: E402
from harness.proxy import Proxy  # noqa: E402
from harness.waiting import eventually  # noqa: E402
import sources  # noqa: E402

ITEMS, GROUPS, NOTES, PARTS, LINES = 40, 5, 20, 20, 60
TOMBSTONE_TTL = 3.0
SETTLE = 1.0
# A reader is cut off after this, by Redis's own clock: a plain reader may take less than `settle` (G4).
READER_DEADLINE = 0.5

SCHEMA = f"""
create table items (id integer primary key, grp integer not null, version bigint not null, body text not null);
create table notes (id integer primary key, body text not null);
create table settings (name text primary key, value text not null);
create table filler (t text);
create table lines (id integer primary key, item integer not null, quantity bigint not null);
create table labels (grp integer primary key, label text not null);
create table parts (id integer not null, region integer not null, version bigint not null, primary key (id, region)) partition by list (region);
create table parts_0 partition of parts for values in (0);
create table parts_1 partition of parts for values in (1);
create index on items (grp);
alter table items replica identity full;
alter table lines replica identity full;
alter table parts replica identity full;
alter table parts_0 replica identity full;
alter table parts_1 replica identity full;
insert into items select i, i % {GROUPS}, 0, 'body' from generate_series(1, {ITEMS}) i;
insert into notes select i, 'note' from generate_series(1, {NOTES}) i;
insert into settings values ('a', '0'), ('b', '0');
insert into lines select i, i % {ITEMS} + 1, 0 from generate_series(1, {LINES}) i;
insert into labels select i, 'label' from generate_series(0, {GROUPS} - 1) i;
insert into parts select i, i % 2, 0 from generate_series(1, {PARTS}) i;
"""

RULES = """
- {name: plain, table: items, keys: ['plain:{id}'], tags: ['plain:{grp}']}
- {name: leased, table: items, keys: ['leased:{id}']}
- {name: checked, table: items, keys: ['checked:{id}'], tags: ['checked:{grp}'], fill: checked}
- {name: stale, table: items, keys: ['stale:{id}'], fill: checked, mode: stale, grace: 20s}
- {name: lazy, table: items, tags: ['lazy:{grp}'], tags_mode: lazy, fill: checked}
- {name: counter, table: items, bump: ['ns:{grp}']}
- {name: notes, table: notes, keys: ['note:{id}', 'cnote:{id}'], fill: checked}
- {name: parts, table: parts, keys: ['part:{id}']}
- {name: settings, table: settings, purge: ['config:*'], purge_every: 100ms}
"""
# For these evictd asks the database.
ASKED = """
- name: refreshed
  table: items
  keys: ['refreshed:{id}']
  fill: checked
  refresh: {query: "select id, id || '@' || version || '@' || grp || '@' || body from items where id = any($1::integer[])", ttl: 1m}
- {name: lines, table: lines, via: {item: {table: items, match: {id: item}}}, keys: ['lines:{item.grp}'], when_changed: [item, quantity]}
- {name: clines, table: lines, via: {item: {table: items, match: {id: item}}}, keys: ['clines:{item.grp}'], fill: checked}
- {name: labels, table: labels, via: {members: {table: items, match: {grp: grp}}}, keys: ['label:{members.id}'], fill: checked}
"""
EXTRA = "- {name: extra, table: items, keys: ['extra:{id}']}\n"

ROW = "select id || '@' || version || '@' || grp || '@' || body from items where id = %s"
LIST = "select coalesce(string_agg(id || '@' || version, ' ' order by id), '-') from items where grp = %s"
NOTE = "select body from notes where id = %s"
PART = "select string_agg(region || '@' || version, ' ' order by region) from parts where id = %s"
CONFIG = "select value from settings where name = %s"
LINE = ("select string_agg(l.id || '@' || l.quantity, ' ' order by l.id) from lines l join items i on i.id = l.item where i.grp = %s")
LABEL = "select l.label from items i join labels l using (grp) where i.id = %s"

# kind: (query, arguments, how a reader fills). What is checked may stay until `tombstone_ttl` after a gap; see DESIGN.md.
KINDS = {
    "plain": (ROW, ITEMS, "plain"), "plainlist": (LIST, GROUPS, "listed"), "leased": (ROW, ITEMS, "leased"),
    "checked": (ROW, ITEMS, "checked"), "checkedlist": (LIST, GROUPS, "checked"), "stale": (ROW, ITEMS, "checked"),
    "lazy": (LIST, GROUPS, "checked"), "counted": (LIST, GROUPS, "counted"), "note": (NOTE, NOTES, "checked"),
    "part": (PART, PARTS, "plain"), "config": (CONFIG, 2, "plain"), "extra": (ROW, ITEMS, "plain"),
    "refreshed": (ROW, ITEMS, "checked"), "lines": (LINE, GROUPS, "plain"), "clines": (LINE, GROUPS, "checked"), "label": (LABEL, ITEMS, "checked"),
}
ASKED_KINDS = {"refreshed", "lines", "clines", "label"}
CHECKED = {kind for kind, (_, _, how) in KINDS.items() if how == "checked"}
LATE = sorted(kind for kind, (_, _, how) in KINDS.items() if how in ("checked", "leased"))  # may be filled however late
ABSENT = "(absent)"

# Stores only before the reader's own deadline: a command that a frozen Redis meets later must not count as a quick reader's.
SET_IN_TIME = """
local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
if KEYS[2] then redis.call('SADD', KEYS[2], KEYS[1]) end
return 1
"""
# The number was read before the rows; where the counter is behind it, the cache has lost what it had.
SET_COUNTED = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', 60000)
return 1
"""


class Failure(AssertionError):
    """evictd did not keep a promise."""


def arguments(kind):
    first = 0 if KINDS[kind][1] == GROUPS else 1
    if kind == "config":
        return ["a", "b"]
    return list(range(first, first + KINDS[kind][1]))


def load(cursor, kind, argument):
    cursor.execute(KINDS[kind][0], (argument,))
    row = cursor.fetchone()
    return ABSENT if row is None or row[0] is None else row[0]


def tag_of(kind, argument):
    """The tag that a value is listed under, if it is: ('tag:<name>', its marker)."""
    name = {"plainlist": "plain", "checkedlist": "checked", "lazy": "lazy"}.get(kind)
    return name and (f"tag:{name}:{argument}", f"evictd:{{tag:{name}:{argument}}}")


def key_of(kind, argument):
    """What is written in one step with something else lies in its slot of a cluster."""
    return f"plainlist:{{tag:plain:{argument}}}" if kind == "plainlist" else f"{kind}:{argument}"


def marker_of(kind, argument):
    key = key_of(kind, argument)
    return f"evictd:{key}" if "{" in key else f"evictd:{{{key}}}"


def call(cache, function, keys, *arguments):
    return cache.execute_command("FCALL", function, len(keys), *keys, *arguments)


def names(cache, kind, argument):
    """The keys of a checked reader's call. On a cluster tags are joined, and asked, by calls of their own."""
    tag = None if isinstance(cache, RedisCluster) else tag_of(kind, argument)
    return [key_of(kind, argument), marker_of(kind, argument), *([] if tag is None else [tag[1] if kind == "lazy" else tag[0]])]


def cached(cache, kind, argument):
    """What a reader would be served as fresh; None: nothing."""
    if kind == "counted":
        number = cache.get(f"ns:{argument}")
        value = cache.get(counted_key(argument, int(number or 0)))
    elif kind in ("stale", "lazy"):
        state, value, _, version = call(cache, "evictd_get", names(cache, kind, argument), "DATED", 1)
        if state != b"fresh":
            return None
        if kind == "lazy" and isinstance(cache, RedisCluster) and not call(cache, "evictd_seen", [tag_of(kind, argument)[1]], version or ""):
            return None
    else:
        value = cache.get(key_of(kind, argument))
    return None if value is None else value.decode()


def counted_key(argument, number):
    return f"counted:{{ns:{argument}}}:v{number}"


def fill(cache, cursor, kind, argument, pause=lambda: None):
    """One read of a key, as its kind's readers do it. `pause`: between the row and the cache, of those that are protected at any
    length of it."""
    how = KINDS[kind][2]
    key = key_of(kind, argument)
    began = time.time()
    if how in ("plain", "listed"):
        if cache.get(key) is None:
            value = load(cursor, kind, argument)
            more = [tag_of(kind, argument)[0]] if how == "listed" else []
            cache.eval(SET_IN_TIME, 1 + len(more), key, *more, (began + READER_DEADLINE) * 1000, value)
    elif how == "counted":
        number = int(cache.get(f"ns:{argument}") or 0)
        if number == 0:
            cache.set(f"ns:{argument}", 1, nx=True)
        elif cache.get(counted_key(argument, number)) is None:
            value = load(cursor, kind, argument)
            cache.eval(SET_COUNTED, 2, f"ns:{argument}", counted_key(argument, number), number, value)
    else:
        keys = names(cache, kind, argument)
        state, _, lease, version = call(cache, "evictd_get", keys, "LEASE", 400, "DATED", 1)
        tag = tag_of(kind, argument) if isinstance(cache, RedisCluster) else None
        if lease is None:
            # A lazy value's tag is asked by itself there, and a value that has not seen it is in nobody's way.
            if kind != "lazy" or tag is None or state != b"fresh" or call(cache, "evictd_seen", [tag[1]], version or ""):
                return
        cursor.execute(f"select ({KINDS[kind][0]})::text, pg_current_snapshot()::text", (argument,))
        value, token = cursor.fetchone()
        if tag is not None and not call(cache, "evictd_join", tag[1:] if kind == "lazy" else tag, key, 600_000, token):
            return
        if how == "leased":
            token = "lease:" + lease.decode()
        pause()
        age = int((time.time() - began) * 1000)
        call(cache, "evictd_fill", keys, token, 600_000, ABSENT if value is None else value, "AGE", age)


TROUBLE = (psycopg2.Error, redis_client.RedisError, redis_client.exceptions.RedisClusterException, OSError)


def is_trouble(error):
    """redis-py 4.3 takes the answer to ASKING apart with the options of the command behind it."""
    return isinstance(error, TROUBLE) or (isinstance(error, TypeError) and "NEVER_DECODE" in str(error))


def cache_text(name, url, more):
    return f"  {name}:\n    redis:\n      url: {url}\n" + "".join(f"      {line}\n" for line in more.splitlines())


class World:
    """One private set of servers, and everything that runs against them until close()."""

    def __init__(self, choice, *, layout="single", second=None, faketime=False, source="postgres", members=1, program="evictd", quiet=False):
        """`layout` of the first cache: single, sentinel or cluster. `second`: another cache, `beside` the first or `behind` it.
        `source`: what evictd reads, a name of sources.SOURCES, with so many members in its group."""
        self.folder = process.temporary_folder("evictd-nemesis-", stays=True)
        self.choice = choice
        self.quiet = quiet
        self.failure = None
        self.is_closed = False
        self.source = sources.SOURCES[source](self)
        self.rules = RULES + (ASKED if self.source.asks_database else "") + self.source.rules + EXTRA
        self.kinds = [kind for kind in KINDS if self.source.asks_database or kind not in ASKED_KINDS]
        self.late_kinds = [kind for kind in LATE if kind in self.kinds]
        self.extra_is_on = True
        self.bounds = {}  # name of a fault: (seconds that staleness may last while green, until when, or None: it goes on)
        self.standbys = 0
        self.daemons = 0
        self.postgres = servers.Postgres(f"{self.folder}/postgres0").start()
        self.postgres.execute("create database shop", database="postgres")
        self.postgres.execute(SCHEMA)
        self.passwords = 0
        self.password_file = f"{self.folder}/postgres.password"
        self.redis_password_file = f"{self.folder}/redis.password"
        self.postgres.execute("create role nemesis superuser login replication")
        with open(f"{self.postgres.data}/pg_hba.conf", encoding="utf-8") as file:
            rest = file.read()
        with open(f"{self.postgres.data}/pg_hba.conf", "w", encoding="utf-8") as file:
            file.write("host all nemesis 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 trust\n" + rest)
        self.redis = self.sentinels = self.cluster = None
        self.to_redis = None
        if layout != "cluster":
            self.redis = servers.Redis(f"{self.folder}/redis0").start()
        if layout == "cluster":
            self.cluster = cluster.Cluster(f"{self.folder}/cluster", with_links=True)
        elif layout == "sentinel":
            from test_sentinel import Sentinels  # pylint: disable=import-outside-toplevel

            replica = servers.Redis(f"{self.folder}/redis1", ["--replicaof", "127.0.0.1", str(self.redis.port)]).start()
            eventually("the replica is in step", lambda: replica.client().info("replication")["master_link_status"] == "up", 30)
            self.sentinels = Sentinels(self.folder, self.redis, replica)
        else:
            self.to_redis = Proxy(self.redis.port)
        self.second = second
        self.caches = {"first": self.redis_client}  # how the application connects to each
        if second is not None:
            self.redis_of_second = servers.Redis(f"{self.folder}/second").start()
            self.caches["second"] = lambda: self.redis_of_second.client(socket_timeout=2)
        self.to_postgres = Proxy(self.postgres.port)
        self.faketime_file = None
        if faketime:
            self.faketime_file = f"{self.folder}/faketime"
            self.set_clock(0)
        self.rotate()
        self.program = program
        self.sanitizer = daemon.sanitizer(daemon.binary(program))
        self.threads = []
        self.writes = self.reads = self.looks = self.green_looks = self.checks = 0
        self.troubles = {}
        self.writing = self.reading = False
        self.stopping = threading.Event()
        self.source.start()
        self.evictd = self.make_evictd()
        self.others = []  # further members of its group, where the source has groups
        self.evictd.start()
        for _ in range(members - 1):
            self.others.append(self.make_evictd())
            self.others[-1].start()

    def say(self, text):
        if not self.quiet:
            print(f"    {text}", flush=True)

    # evictd.

    def members(self):
        return [self.evictd, *self.others]

    def write_rules(self, text):
        for one in self.members():
            one.write_rules(text)

    def make_evictd(self):
        if self.sentinels is not None:
            hosts = ", ".join(f"'127.0.0.1:{port}'" for port in self.sentinels.ports)
            url, more = "redis://mymaster/0", f"sentinels: [{hosts}]\n"
        elif self.cluster is not None:
            url, more = self.cluster.url(), ""
        else:
            url, more = f"redis://nemesis@127.0.0.1:{self.to_redis.port}/0", f"password_file: {self.redis_password_file}\n"
        more += f"timeout: 1s\ntombstone_ttl: {int(TOMBSTONE_TTL)}s\n"
        caches = cache_text("first", url, more)
        if self.second is not None:
            caches += cache_text("second", self.redis_of_second.url(), f"timeout: 1s\ntombstone_ttl: {int(TOMBSTONE_TTL)}s\n")
            caches += "    park_after: {age: 4s}\n" + ("    after: first\n" if self.second == "behind" else "")
        one = self.source.make_evictd(f"{self.folder}/evictd{self.daemons}", caches)
        self.daemons += 1
        if self.faketime_file is not None:
            one.env = dict(os.environ, LD_PRELOAD=faketime_library(), FAKETIME_TIMESTAMP_FILE=self.faketime_file,
                           FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_RESET="1")
        return one

    def set_clock(self, seconds):
        with open(self.faketime_file + ".next", "w", encoding="utf-8") as file:
            file.write(f"{seconds:+d}s\n")
        os.replace(self.faketime_file + ".next", self.faketime_file)

    def rotate(self, files_first=False):
        """Gives both of evictd's accounts a new password."""
        self.passwords += 1
        password = f"secret-{self.passwords}"

        def change_files():
            for path in (self.password_file, self.redis_password_file):
                with open(path + ".next", "w", encoding="utf-8") as file:
                    file.write(password + "\n")
                os.replace(path + ".next", path)

        if files_first:
            change_files()
        self.tell_postgres_its_password(password)
        self.tell_redis_its_password(password)
        if not files_first:
            change_files()

    # Servers that came back from somewhere know an older one, or none.

    def tell_postgres_its_password(self, password=None):
        password = password or f"secret-{self.passwords}"
        self.sql(f"alter role nemesis password '{password}'")
        self.sql("select pg_reload_conf()")

    def tell_redis_its_password(self, password=None):
        password = password or f"secret-{self.passwords}"
        if self.to_redis is not None:
            eventually("Redis takes the password", lambda: self.try_redis(
                lambda one: one.execute_command("ACL", "SETUSER", "nemesis", "on", "resetpass", f">{password}", "~*", "&*", "+@all")), 30)

    def try_redis(self, act):
        try:
            act(self.redis_client())
            return True
        except redis_client.RedisError:
            return False

    # Connections of the application: straight to the servers, which only evictd loses on its way.

    def redis_client(self):
        if self.sentinels is not None:
            return self.sentinels.client()
        if self.cluster is not None:
            # No second try by itself: the age that a reader gives with its fill would be another one by then.
            return self.cluster.client(cluster_error_retry_attempts=1)
        return self.redis.client(socket_timeout=2)

    def connect(self, **more):
        return self.postgres.connect(connect_timeout=5, options="-c statement_timeout=8000", **more)

    def sql(self, statement, seconds=60, expect=()):
        """As an administrator who tries again while the server is away; gives up on what `expect` names."""
        def done():
            try:
                return (self.postgres.execute(statement),)
            except expect:
                return (None,)
            except (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.errors.DeadlockDetected) as error:
                raise AssertionError(str(error)) from error
        return eventually(f"'{statement}' is done", done, seconds, every=0.1)[0]

    def ways(self):
        """The proxies between evictd and its servers."""
        return [proxy for proxy in (self.to_redis, self.to_postgres, self.source.way) if proxy is not None]

    # Bounds of the watch.

    def allow(self, name, seconds, lasting=None):
        """While green, staleness may last so long from now on, until withdrawn or for `lasting` seconds."""
        self.bounds[name] = (seconds, None if lasting is None else time.monotonic() + lasting)

    def bound(self, kind):
        now = time.monotonic()
        most = (TOMBSTONE_TTL + 4 if kind in CHECKED else SETTLE + 3) + self.source.delay
        for name, (seconds, until) in list(self.bounds.items()):
            if until is not None and now > until:
                self.bounds.pop(name, None)
            else:
                most = max(most, seconds)
        return most

    # The application.

    def start(self, writers=2, readers=3):
        self.writing = self.reading = True
        seeds = self.choice.getrandbits(32)
        for number in range(writers):
            self._thread(self._write, f"{seeds}w{number}")
        for name in self.caches:
            for number in range(readers):
                self._thread(lambda choice, name=name: self._read(choice, self.caches[name]), f"{seeds}r{name}{number}")
            for number in range(2):
                self._thread(lambda choice, name=name: self._read(choice, self.caches[name], is_late=True), f"{seeds}late{name}{number}")
            self._thread(Watch(self, name).run, f"{seeds}watch{name}")
        for number, work in enumerate(self.source.threads()):
            self._thread(work, f"{seeds}source{number}")
        return self

    def _thread(self, work, seed):
        def guarded():
            try:
                work(random.Random(seed))
            except Exception as error:  # pylint: disable=broad-except
                self.fail(f"{type(error).__name__}: {error}" if not isinstance(error, Failure) else str(error))
        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self.threads.append(thread)

    def fail(self, text):
        if self.failure is None:
            self.failure = Failure(text)

    def check(self):
        if self.failure is not None:
            raise self.failure

    def trouble(self, error):
        name = type(error).__name__
        self.troubles[name] = self.troubles.get(name, 0) + 1
        self.stopping.wait(0.05)

    def _write(self, choice):
        while not self.stopping.is_set():
            try:
                connection = self.connect()
                with connection.cursor() as cursor:
                    while not self.stopping.is_set():
                        if not self.writing:
                            break
                        cursor.execute("begin")
                        try:
                            for _ in range(choice.choice([1, 1, 1, 3])):
                                write(cursor, choice)
                            cursor.execute("rollback" if choice.random() < 0.03 else "commit")
                            self.writes += 1
                        except (psycopg2.IntegrityError, psycopg2.extensions.TransactionRollbackError, psycopg2.ProgrammingError):
                            cursor.execute("rollback")
                        time.sleep(0.004)
                connection.close()
                time.sleep(0.01)
            except psycopg2.Error as error:
                self.trouble(error)

    def _read(self, choice, connect_to_cache, is_late=False):
        """`is_late`: for so long after the row was read that what was read may be over, the server it came from, too."""
        while not self.stopping.is_set():
            try:
                cache, connection = connect_to_cache(), self.connect()
                with connection.cursor() as cursor:
                    while not self.stopping.is_set():
                        if self.reading:
                            kind = choice.choice(self.late_kinds if is_late else self.kinds)
                            pause = (lambda: self.stopping.wait(choice.uniform(0, 1.3 * TOMBSTONE_TTL))) if is_late else lambda: None
                            fill(cache, cursor, kind, choice.choice(arguments(kind)), pause)
                            self.reads += 1
                        time.sleep(0.001)
                connection.close()
            except Exception as error:  # pylint: disable=broad-except
                if not is_trouble(error):
                    raise
                self.trouble(error)

    # Rest.

    def rest(self):
        """Writers stop; evictd must come to rest, and then tell the truth."""
        seconds = self.source.patience
        self.writing = False
        for one in self.members():
            if not one.is_running():
                raise Failure(f"evictd ended by itself with {one.process.returncode}:\n{one.log_tail(15)}")
        time.sleep(0.05)  # a writer's last statement may be under way; what it commits later is waited for below
        self.source.wait_for_what_comes_before_evictd()
        try:
            for one in self.members():
                one.wait_until_ready(seconds)
            eventually("evictd has acknowledged the last commit, and says that it has caught up", self.source.has_caught_up, seconds)
        except AssertionError as error:
            raise Failure(f"evictd does not come to rest: {error}\n" + "\n".join(one.log_tail(15) for one in self.members())) from error
        self.reading = False
        time.sleep(0.3)  # a reader's last fill may be under way: it is a quick one, or it is refused
        self.differences()
        self.check()
        resident = max(one.memory_bytes("VmHWM") for one in self.members())
        if resident > 200 * 2**20 and not self.sanitizer:
            raise Failure(f"evictd used {resident >> 20} MiB")
        if not self.source.acknowledged_is_written():
            raise Failure("acknowledged what the server has not written")
        self.checks += 1
        self.writing = self.reading = True

    def differences(self):
        """Every cached value against its row. What is checked has until `tombstone_ttl` after a gap (DESIGN.md)."""
        eventually("the functions are there, where they were flushed", self._has_functions, 60)
        end = time.monotonic() + TOMBSTONE_TTL + 3
        while True:
            found, late = [], []
            count = 0
            with self.connect() as connection, connection.cursor() as cursor:
                for name, connect_to_cache in self.caches.items():
                    cache = connect_to_cache()
                    for kind in self.kinds:
                        for argument in arguments(kind):
                            value = cached(cache, kind, argument)
                            if value is None:
                                continue
                            count += 1
                            fresh = load(cursor, kind, argument)
                            if value != fresh:
                                (late if kind in CHECKED else found).append(told(name, cache, kind, argument, value, fresh))
            connection.close()
            if found or (late and time.monotonic() > end):
                raise Failure("at rest, the cache does not tell the truth:\n  " + "\n  ".join((found + late)[:12]))
            if not late:
                self.say(f"at rest: {count} values, all true")
                return
            time.sleep(0.1)

    def _has_functions(self):
        asked = [lambda connect=connect: connect().execute_command("FCALL", "evictd_version", 0) for connect in self.caches.values()]
        if self.cluster is not None:
            asked += [lambda index=index: self.cluster.ask(index, "FCALL", "evictd_version", 0) for index in self.cluster.masters()]
        try:
            return all(ask() for ask in asked)
        except redis_client.RedisError as error:
            raise AssertionError(str(error)) from error

    def close(self):
        if self.is_closed:
            return
        self.is_closed = True
        self.stopping.set()
        for thread in self.threads:
            thread.join(15)
        for proxy in self.ways():
            proxy.stop()
        if self.cluster is not None:
            self.cluster.stop()
        process.end_all()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def told(name, cache, kind, argument, value, fresh):
    marker = cache.get(marker_of(kind, argument))
    return f"in {name} {key_of(kind, argument)}: cached {value!r}, the row says {fresh!r}, marker {marker!r}"


class Watch:
    """Looks at keys all the time. A value that differs from its row, and is the same at every look for longer than its kind
    allows, while evictd said at every look that it is ready and not behind, is a lie."""

    def __init__(self, world, name):
        self.world = world
        self.name = name  # of the cache
        self.green = re.compile(r'^evictd_(ready|lag_seconds)(?:\{cache="' + name + r'"\})? (\S+)', re.M)
        self.suspects = {}
        self.last_look = 0.0
        self.asked = None  # (port, client) of the master, as the Sentinels say

    def is_green(self):
        return all(self.says_green(one) for one in self.world.members())

    def says_green(self, one):
        code, text = one.http("/metrics")
        if code != 200:
            return False
        found = dict(self.green.findall(text))
        source = self.world.source
        return found.get("ready") == "1" and float(found.get("lag_seconds", "nan")) <= source.lag_green and source.is_current(text)

    def run(self, choice):
        world = self.world
        while not world.stopping.is_set():
            try:
                cache, connection = world.caches[self.name](), world.connect()
                with connection.cursor() as cursor:
                    while not world.stopping.is_set():
                        self.look(choice, cache, cursor)
                        time.sleep(0.05)
                connection.close()
            except Exception as error:  # pylint: disable=broad-except
                if not is_trouble(error):
                    raise
                self.suspects.clear()
                world.trouble(error)

    def current(self, cache):
        """A master that was replaced believes in itself until the Sentinels tell it, some ten seconds: what its clients read there
        nobody can delete, and it is gone with it. So here, whoever the Sentinels name is asked."""
        sentinels = self.world.sentinels if self.name == "first" else None
        if sentinels is None:
            return cache
        port = sentinels.asked.discover_master("mymaster")[1]
        if self.asked is None or self.asked[0] != port:
            self.asked = port, redis_client.Redis(port=port, socket_timeout=2)
            self.suspects.clear()
        return self.asked[1]

    def look(self, choice, cache, cursor):
        world = self.world
        cache = self.current(cache)
        before = time.monotonic()
        if before - self.last_look > 1 or not self.is_green():
            self.suspects.clear()
        keys = set(self.suspects)
        for _ in range(15):
            kind = choice.choice(world.kinds)
            keys.add((kind, choice.choice(arguments(kind))))
        for kind, argument in keys:
            if kind == "extra" and not world.extra_is_on:
                self.suspects.pop((kind, argument), None)
                continue
            value = cached(cache, kind, argument)
            fresh = load(cursor, kind, argument)
            if value is None or value == fresh:
                self.suspects.pop((kind, argument), None)
                continue
            first = self.suspects.get((kind, argument))
            now = time.monotonic()
            if first is None or first[0] != value:
                self.suspects[(kind, argument)] = (value, now)
            elif now - first[1] > world.bound(kind) and self.is_green():
                world.fail(f"evictd says ready and not behind, for {now - first[1]:.1f} s stale {told(self.name, cache, kind, argument, value, fresh)}")
                return
        world.looks += 1
        world.green_looks += bool(keys) and self.is_green()
        self.last_look = time.monotonic()


def write(cursor, choice):
    """One change of the application."""
    item, part = choice.randint(1, ITEMS), choice.randint(1, PARTS)
    what = choice.randrange(12)
    if what <= 3:
        cursor.execute("update items set version = version + 1 where id = %s", (item,))
    elif what == 4:
        cursor.execute("update items set grp = %s, version = version + 1 where id = %s", (choice.randrange(GROUPS), item))
    elif what == 5:
        cursor.execute("delete from items where id = %s", (item,))
        if cursor.rowcount == 0:
            # Versions go on, so that no value comes twice.
            cursor.execute("insert into items values (%s, %s, (extract(epoch from clock_timestamp()) * 1000)::bigint, 'body')",
                           (item, choice.randrange(GROUPS)))
    elif what == 6:
        cursor.execute("insert into notes values (%s, clock_timestamp()::text) on conflict (id) do update set body = excluded.body",
                       (choice.randint(1, NOTES),))
    elif what == 7:
        cursor.execute("update parts set version = version + 1 where id = %s", (part,))
    elif what == 8:
        cursor.execute("update parts set region = 1 - region, version = version + 1 where id = %s", (part,))
        if cursor.rowcount == 0:
            cursor.execute("insert into parts values (%s, %s, (extract(epoch from clock_timestamp()) * 1000)::bigint)", (part, choice.randrange(2)))
    elif what == 9:
        cursor.execute("insert into settings values (%s, clock_timestamp()::text) on conflict (name) do update set value = excluded.value",
                       (choice.choice(["a", "b"]),))
    elif what == 10 and choice.random() < 0.5:
        line = choice.randint(1, LINES)
        cursor.execute("update lines set quantity = quantity + 1, item = case when random() < 0.3 then %s else item end where id = %s", (item, line))
        if cursor.rowcount == 0:
            cursor.execute("insert into lines values (%s, %s, (extract(epoch from clock_timestamp()) * 1000)::bigint)", (line, item))
        elif choice.random() < 0.2:
            cursor.execute("delete from lines where id = %s", (line,))
        if choice.random() < 0.3:  # with the row that it leads to, in one transaction
            cursor.execute("update items set grp = %s, version = version + 1 where id = %s", (choice.randrange(GROUPS), item))
    elif what == 11 and choice.random() < 0.5:
        cursor.execute("update labels set label = clock_timestamp()::text where grp = %s", (choice.randrange(GROUPS),))
    elif what == 10:
        cursor.execute("update items set version = version + 1 where id %% 7 = %s", (choice.randrange(7),))
        cursor.execute("savepoint half")
        cursor.execute("update items set version = version + 1 where id %% 5 = %s", (choice.randrange(5),))
        if choice.random() < 0.5:
            cursor.execute("rollback to savepoint half")
    else:
        cursor.execute("delete from notes where id = %s", (choice.randint(1, NOTES),))


def faketime_library():
    import glob  # pylint: disable=import-outside-toplevel

    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    return found[0] if found else None
