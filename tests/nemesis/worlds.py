#!/usr/bin/env python3
"""Draws tables, rows, rules, readers and writers from a seed, runs evictd between them, and demands a true cache at rest.

    worlds.py                    one seed after the other, for a minute
    worlds.py --minutes 60       for an hour; --keep-going: also after a failure
    worlds.py --seed 17          that one again; --show: its tables and rules
    worlds.py --program NAME     with another build

At rest (writers stopped, evictd ready, lag 0, everything acknowledged) every value equals what the database says now, a value whose
row nobody touched is still there, and `evictd audit` finds nothing stale. `drawn.py` draws, and says what is to be cached.
"""

import argparse
import collections
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.dirname(HERE))

import psycopg2  # noqa: E402
from drawn import QUIET, TYPES_SQL, Drawing, alterations, literal, text_of, yaml_of  # noqa: E402
from harness import daemon, oracle, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402
from world import ABSENT, READER_DEADLINE, SET_COUNTED, SET_IN_TIME, TOMBSTONE_TTL, Failure, cache_text, call, is_trouble  # noqa: E402

IDS = 12
LOOK = 12.0  # seconds within which evictd has looked at the catalogue after an ALTER, and purged
EVENTS = ["purge command", "slot is lost", "audit mends", "warm", "alter while it is away", "loosen", "postgres", "nothing", "nothing", "nothing", "kill", "restart", "reload", "reload", "redis", "alter", "alter", "truncate"]


def marker_of(key):
    """The companion of a key, or of a lazy tag's set."""
    return f"evictd:{key}" if re.search(r"\{[^}]+\}", key, re.S) else f"evictd:{{{key}}}"


class Servers:
    """PostgreSQL and two Redis, for one seed after the other."""

    def __init__(self):
        self.folder = process.temporary_folder("evictd-worlds-")
        self.postgres = servers.Postgres(f"{self.folder}/postgres").start()
        self.redis = {name: servers.Redis(f"{self.folder}/{name}").start() for name in ("first", "second")}

    def stop(self):
        process.end_all()
        shutil.rmtree(self.folder, ignore_errors=True)


class World:
    """One seed's tables, rules and threads."""

    def __init__(self, seed, held, program, tallies, shown=False):
        self.choice = random.Random(f"worlds {seed}")
        self.held, self.postgres, self.tallies = held, held.postgres, tallies
        self.database = f"w{seed}"
        self.folder = f"{held.folder}/w{seed}"
        self.failure = None
        self.off = set()  # names of rules that are not in force
        self.only_added = False  # the last ALTER purges nothing
        self.threads, self.left = [], []
        self.writing = self.reading = self.stopping = False
        self.troubles = collections.Counter()
        for redis in held.redis.values():
            redis.client().flushall()
        self.postgres.execute(f"create database {self.database}", database="postgres")
        self.sql(TYPES_SQL)
        self.evictd = None
        while not self.draw(program, shown):
            tallies["redrawn"] += 1

    def sql(self, statement):
        return self.postgres.execute(statement, database=self.database)

    def connect(self):
        connection = self.postgres.connect(self.database, connect_timeout=5, options="-c statement_timeout=8000 -c timezone=UTC -c datestyle=ISO "
                                           "-c bytea_output=hex -c extra_float_digits=1 -c intervalstyle=postgres")
        return connection

    # Drawing.

    def draw(self, program, shown):
        """False: `check` refuses what was drawn."""
        with self.connect() as connection, connection.cursor() as cursor:
            def printed(kind, value):
                cursor.execute(f"select {text_of(f'({literal(value)}::{kind})', kind)}")
                return cursor.fetchone()[0]
            drawing = self.drawing = Drawing(self.choice, printed)
        connection.close()
        for table in drawing.tables:
            self.sql(f"drop table if exists {table.sql} cascade")
            self.sql(f"drop function if exists stamp{table.number} cascade")
            for child in table.children:
                self.sql(f"drop table if exists {child} cascade")
            for statement in table.ddl():
                self.sql(statement)
            for number in [*self.choice.sample(range(1, IDS + 1), 8), *range(QUIET, QUIET + 4)]:
                self.sql(self.insert(self.choice, table, number, quiet=number >= QUIET))
        for setting in drawing.settings:
            self.postgres.execute(f"alter database {self.database} set {setting}", database="postgres")
        if not drawing.rules:
            return False
        caches = "".join(cache_text(name, self.held.redis[name].url(), f"timeout: 1s\ntombstone_ttl: {int(TOMBSTONE_TTL)}s\n") for name in drawing.caches)
        caches += "    after: first\n" if drawing.is_behind else ""
        self.evictd = daemon.Evictd(self.folder, self.postgres.url(self.database), None, yaml_of(drawing.rules, drawing.defaults), slot=f"s_{self.database}",
                                    publication=self.database, caches=caches, program=program)
        found = self.evictd.command("check", "--json")
        if shown:
            print("\n".join(statement for table in drawing.tables for statement in table.ddl()), yaml_of(drawing.rules, drawing.defaults), found.stdout, found.stderr, sep="\n")
        try:
            findings = json.loads(found.stdout)["findings"]
        except (ValueError, KeyError, TypeError):
            raise Failure(f"check says {found.returncode}: {found.stdout}{found.stderr}\n{yaml_of(drawing.rules, drawing.defaults)}") from None
        for one in findings:
            self.tallies[f"check {one.get('severity')} {one.get('id')}"] += 1
            if one.get("severity") == "error":
                self.tallies["refused: " + re.sub(r"/\S*/|\d+", "_", one["cause"])[:150]] += 1
        return found.returncode == 0

    def is_off(self, view):
        return bool(view.rules() & self.off)

    # Writers.

    def insert(self, choice, table, number, quiet=False, more=""):
        values = table.row(choice, number, quiet)
        into = choice.choice([table.sql, *table.children]) if table.layout == "inherited" and not more else table.sql
        return (f"insert into {into} ({', '.join(column.sql for column in values)}) values "
                f"({', '.join(table.cast(column, value) for column, value in values.items())}) {more}")

    def change(self, choice, table, cursor):
        """One statement of the application."""
        one, two = choice.randint(1, IDS), choice.randint(1, IDS)
        free = [column for column in table.columns if not column.fixed and column.name != "id" and column is not table.generated]
        if table.version:
            cursor.execute(f"lock table {table.sql} in exclusive mode")

        def assignments():
            values = table.row(choice, one)
            return ", ".join(f"{column.sql} = {table.cast(column, values[column])}" for column in choice.sample(free, min(len(free), choice.choice([1, 1, 2, 4]))))
        nothing = f"on conflict ({', '.join(column.sql for column in table.key)}) do nothing"
        what = "insert" if table.identity == "nothing" else choice.choice(
            ["update"] * 8 + ["insert", "insert", "delete", "rename", "same", "many", "upsert", "copy", "merge", "stock", "stock"])
        if what == "update":
            cursor.execute(f"update {table.sql} set {assignments()} where id = {one}")
        elif what == "insert":
            cursor.execute(self.insert(choice, table, one, more=nothing))
        elif what == "delete":
            cursor.execute(f"delete from {table.sql} where id = {one}")
        elif what == "rename":
            cursor.execute(f"update {table.sql} set id = {two} where id = {one} and not exists (select from {table.sql} where id = {two})")
        elif what == "same":
            cursor.execute(f"update {table.sql} set ref = ref where id = {one}")
        elif what == "stock":
            cursor.execute(f"update {table.sql} set stock = {choice.choice(['0', '1', '2', 'null', 'stock + 1'])} where id = {one}")
        elif what == "many":
            cursor.execute(f"update {table.sql} set {assignments()} where id % 3 = {one % 3} and id < {QUIET}")
        elif what == "upsert":
            cursor.execute(self.insert(choice, table, one, more=nothing.replace("nothing", f"update set {assignments()}")))
        elif what == "copy":
            cursor.execute(f"delete from {table.sql} where id = {one}")
            self.copy(cursor, table, table.row(choice, one))
        else:
            values = table.row(choice, one)
            cursor.execute(f"merge into {table.sql} t using (select {one} as id) s on t.id = s.id when matched and {choice.choice(['true', 't.stock = 1'])} then "
                           f"{choice.choice(['delete', 'update set ' + assignments()])} when not matched then insert "
                           f"({', '.join(column.sql for column in values)}) values ({', '.join(table.cast(column, value) for column, value in values.items())})")

    @staticmethod
    def copy(cursor, table, values):
        line = ",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in values.values())
        cursor.copy_expert(f"copy {table.sql} ({', '.join(column.sql for column in values)}) from stdin with (format csv)", io.StringIO(line + "\n"))

    def transaction(self, choice, cursor, number):
        cursor.execute("begin")
        name = None
        try:
            for _ in range(choice.choice([1, 1, 2, 4])):
                table = choice.choice(self.drawing.tables)
                cursor.execute("savepoint one")
                try:
                    self.change(choice, table, cursor)
                    if choice.random() < 0.1:
                        cursor.execute("rollback to savepoint one")
                except (psycopg2.errors.IntegrityError, psycopg2.errors.DataError, psycopg2.errors.CardinalityViolation) as error:
                    self.troubles[type(error).__name__] += 1
                    cursor.execute("rollback to savepoint one")
            end = choice.random()
            if end < 0.1:
                name = f"'{self.database} {number} {choice.random()}'"
                cursor.execute(f"prepare transaction {name}")
                time.sleep(choice.choice([0, 0.05, 0.3]))
                cursor.execute(f"{choice.choice(['commit', 'commit', 'rollback'])} prepared {name}")
            else:
                cursor.execute("commit" if end < 0.9 else "rollback")
        except psycopg2.Error:
            if name is not None:
                self.left.append(name)
            cursor.execute("rollback")
            raise

    def again_and_again(self, whose, work, *arguments):
        """On another connection where one breaks."""
        while not self.stopping:
            try:
                connection = self.connect()
                work(connection, *arguments)
                connection.close()
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                self.trouble(whose, error)

    def trouble(self, whose, error):
        self.troubles[f"{whose} {type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"] += 1
        time.sleep(0.01)

    def write_with(self, connection, choice, number):
        with connection.cursor() as cursor:
            while not self.stopping:
                if not self.writing:
                    time.sleep(0.01)
                    continue
                self.busy += 1
                try:
                    self.transaction(choice, cursor, number)
                    self.tallies["transactions"] += 1
                except (psycopg2.OperationalError, psycopg2.InterfaceError):
                    if connection.closed:
                        raise
                except psycopg2.Error as error:
                    self.trouble("writer", error)
                finally:
                    self.busy -= 1
                time.sleep(choice.choice([0, 0.002, 0.02]))

    # Readers.

    def read_with(self, connection, choice, name):
        cache = self.held.redis[name].client(socket_timeout=2)
        views = [view for view in self.drawing.views if name in view.caches]
        with connection.cursor() as cursor:
            while not self.stopping:
                if not self.reading or not views:
                    time.sleep(0.01)
                    continue
                try:
                    self.fill(choice, cache, cursor, choice.choice(views))
                    self.tallies["reads"] += 1
                except Exception as error:  # pylint: disable=broad-except
                    if not is_trouble(error) or connection.closed:
                        raise
                    self.trouble("reader", error)

    def names(self, view, name):
        """(key, the names that evictd's functions are called with, its tag's set)"""
        key = f"w{view.number}:{name}" if view.tag else name
        tag = f"tag:{name}" if view.tag else None
        more = [] if tag is None else [marker_of(tag) if view.how == "lazy" else tag]
        return key, [key, marker_of(key), *more], tag

    def fill(self, choice, cache, cursor, view):
        began = time.time()
        if view.how == "counted":
            self.fill_counted(cache, cursor, view, choice)
            return
        leases = {}
        if view.how == "leased" and view.known:
            some = choice.sample(sorted(view.known), min(10, len(view.known)))
        else:
            some = None
        if some is not None:
            for name in some:
                leases[name] = call(cache, "evictd_get", self.names(view, name)[1], "LEASE", 400)[2]
        values, token = view.load(cursor)
        if some is None:
            known = sorted(view.known if view.absent else set(values) & view.known)
            some = choice.sample(known, min(20, len(known)))
        versions = self.versions(view, values)
        if choice.random() < 0.15:
            time.sleep(choice.uniform(0, 0.3))
        for name in some:
            if name not in values and not view.absent:
                continue
            value = values.get(name, ABSENT)
            key, names, tag = self.names(view, name)
            if len(key.encode()) > 60_000:
                continue
            if view.how == "plain":
                if cache.exists(key) == 0:
                    cache.eval(SET_IN_TIME, 1 + bool(tag), key, *([tag] if tag else []), (began + READER_DEADLINE) * 1000, value)
                continue
            if view.how == "leased":
                if leases.get(name) is None:
                    continue
                given = "lease:" + leases[name].decode()
            else:
                if call(cache, "evictd_get", names)[0] == b"fresh":
                    continue
                given = versions[name] if view.how == "versioned" else token
            self.tallies[f"fills {view.how}"] += call(cache, "evictd_fill", names, given, 3_600_000, value, "AGE", int((time.time() - began) * 1000))

    @staticmethod
    def versions(view, values):
        return {name: "v:" + value.split("|", 1)[0] for name, value in values.items()} if view.how == "versioned" else {}

    @staticmethod
    def counted_key(view, name, number):
        return f"w{view.number}:{name}:{number}"

    def fill_counted(self, cache, cursor, view, choice):
        names = sorted(view.known)
        numbers = {name: int(cache.get(name) or 0) for name in choice.sample(names, min(20, len(names)))}
        values = view.load(cursor)[0]
        for name, number in numbers.items():
            if number == 0:
                cache.set(name, 1, nx=True)
            else:
                cache.eval(SET_COUNTED, 2, name, self.counted_key(view, name, number), number, values.get(name, ABSENT))

    def cached(self, cache, view, name):
        key, names, _ = self.names(view, name)
        if view.how == "counted":
            value = cache.get(self.counted_key(view, name, int(cache.get(name) or 0)))
        elif view.how in ("stale", "lazy"):
            state, value = call(cache, "evictd_get", names)[:2]
            value = value if state in (b"fresh", b"same") else None
        else:
            value = cache.get(key)
        return None if value is None else value.decode()

    # What happens to it.

    def start(self):
        self.busy = 0
        self.evictd.start()
        seed = self.choice.getrandbits(32)
        for number in range(2):
            self.thread(self.again_and_again, "writer", self.write_with, random.Random(f"{seed}w{number}"), number)
        for name in self.drawing.caches:
            for number in range(2):
                self.thread(self.again_and_again, "reader", self.read_with, random.Random(f"{seed}r{name}{number}"), name)

    def thread(self, work, *arguments):
        def guarded():
            try:
                work(*arguments)
            except Exception as error:  # pylint: disable=broad-except
                self.failure = self.failure or Failure(f"{type(error).__name__}: {error}\n" + "".join(traceback.format_tb(error.__traceback__)[-3:]))
        self.threads.append(threading.Thread(target=guarded, daemon=True))
        self.threads[-1].start()

    def event(self, name):
        """-> whether values that nobody touched may go."""
        choice, evictd = self.choice, self.evictd
        if name == "kill":
            evictd.kill()
            time.sleep(choice.choice([0, 0.5, 1.5]))
            evictd.start(ready=False)
        elif name == "restart":
            evictd.stop()
            evictd.start(ready=False)
        elif name == "redis":
            redis = self.held.redis[choice.choice(self.drawing.caches)]
            redis.stop()
            redis.start()
        elif name == "truncate":
            self.administer(f"truncate {choice.choice(self.drawing.tables).sql}")
        elif name == "reload":
            every = [rule["name"] for rule in self.drawing.rules]
            self.off = set() if self.off else set(choice.sample(every, choice.randint(1, max(1, len(every) - 1)))) if len(every) > 1 else set()
            self.reload([rule for rule in self.drawing.rules if rule["name"] not in self.off])
        elif name == "loosen":  # and tightened by the next reload
            self.off = set()
            self.reload([{setting: value for setting, value in rule.items() if setting not in ("where", "when_changed", "ignore_changed", "on")}
                         for rule in self.drawing.rules])
        elif name == "purge command":
            self.command("purge", "--table", choice.choice(self.drawing.rules)["table"])
        elif name == "slot is lost":
            evictd.stop()
            self.sql(f"select pg_drop_replication_slot('{evictd.slot}')")
            self.wait(choice.choice([0, 0.5]))
            evictd.start(ready=False)
        elif name == "audit mends":
            self.audit("--fix")
        elif name == "warm":
            for rule in self.drawing.rules:
                if "query" in rule.get("refresh", {}) and rule["name"] not in self.off:
                    self.command("warm", "--rule", rule["name"])
        elif name == "postgres":
            self.postgres.stop(choice.choice(["fast", "immediate"]))
            self.postgres.start()
        elif name == "alter while it is away":
            evictd.stop()
            for statement in self.alteration(choice):
                self.administer(statement)
            self.wait(choice.choice([0, 0.5]))
            evictd.start(ready=False)
        elif name == "alter":
            for statement in self.alteration(choice):
                self.administer(statement)
                time.sleep(choice.choice([0, 0.3]))
        return name not in ("nothing", "kill", "restart", "postgres", "audit mends", "warm") and not (name == "alter" and self.only_added)

    def reload(self, rules):
        evictd = self.evictd
        evictd.write_rules(yaml_of(rules, self.drawing.defaults))
        before = evictd.metrics().sum("evictd_rules_reload_total", outcome="success") if evictd.is_ready() else None
        evictd.signal(signal.SIGHUP)
        if before is not None:
            eventually("the rules are read again", lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") > before, 30)

    def administer(self, statement):
        def done():
            try:
                self.sql(statement if "prepared" in statement else "set lock_timeout = '2s'; " + statement)
                return True
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                self.finish_prepared()
                raise AssertionError(str(error)) from error
            except psycopg2.Error as error:
                self.troubles[f"administrator {type(error).__name__}: {str(error).splitlines()[0][:100]}"] += 1
                return True
        eventually(f"'{statement}' is done", done, 30)

    def finish_prepared(self):
        """What was left by a server that went away between the two halves."""
        while self.left:
            self.administer(f"rollback prepared {self.left.pop()}")

    def alteration(self, choice):
        statements = choice.choice(alterations(choice, self.drawing, choice.choice(self.drawing.tables), self.database))
        self.only_added = all(" add column " in statement and " drop " not in statement for statement in statements)
        self.say(f"  {'; '.join(statements)}")
        self.tallies["altered"] += 1
        if "replica identity" in statements[0]:  # from now on what was not sent may purge
            for view in self.drawing.views:
                view.is_quiet = False
        return statements

    def say(self, text):
        print(f"  {text}", flush=True)

    def play(self, rounds):
        self.start()
        for number in range(rounds):
            name = self.choice.choice(EVENTS) if number else "nothing"
            excused = False
            self.say(f"round {number}: {name}")
            untouched = self.untouched() if number else {}
            self.writing = self.reading = True
            self.wait(self.choice.uniform(0.5, 1.5))
            excused = self.event(name)
            self.wait(self.choice.uniform(0.2, 1.5))
            if name != "nothing" and self.choice.random() < 0.4:  # two at once
                second = self.choice.choice(EVENTS)
                self.say(f"  and {second}")
                name = f"{name}, {second}"
                excused |= self.event(second)
                self.wait(self.choice.uniform(0, 1))
            self.rest(name)
            if not excused:
                self.still_there(untouched)
            self.audit()

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.failure:
                raise self.failure
            time.sleep(0.02)

    def rest(self, name):
        self.writing = False
        eventually("the writers have stopped", lambda: self.busy == 0, 20)
        self.finish_prepared()
        try:
            self.evictd.wait_until_ready(60)
            oracle.wait_until_acknowledged(self.postgres, self.evictd.slot, 60, self.database)
            oracle_of_lag(self.evictd)
        except AssertionError as error:
            raise Failure(f"evictd does not come to rest: {error}\n{self.evictd.log_tail(12)}") from error
        self.reading = False
        time.sleep(0.35)  # a reader's last fill may be under way: it is a quick one, or it is refused
        if self.failure:
            raise self.failure
        end = time.monotonic() + (LOOK if "alter" in name else TOMBSTONE_TTL + 1 if name not in ("nothing", "kill", "restart", "truncate", "audit mends", "warm") else 0)
        while True:
            found, count = self.differences()
            if not found:
                break
            if time.monotonic() > end:
                raise Failure(f"after '{name}' the cache does not tell the truth:\n  " + "\n  ".join(found[:10]))
            time.sleep(0.2)
        self.tallies["values compared"] += count
        self.tallies["rests"] += 1

    def differences(self):
        found, count = [], 0
        with self.connect() as connection, connection.cursor() as cursor:
            for view in self.drawing.views:
                if self.is_off(view):
                    continue
                values = view.load(cursor)[0]
                for name in view.caches:
                    cache = self.held.redis[name].client()
                    for one in sorted(view.known):
                        value = self.cached(cache, view, one)
                        count += value is not None
                        if value is not None and value != values.get(one, ABSENT):
                            found.append(f"in {name}, {view.how} of {sorted(view.rules())}: {self.names(view, one)[0]!r} is {value!r}, the rows say {values.get(one, ABSENT)!r}, "
                                         f"marker {cache.get(self.names(view, one)[1][1])!r}")
        connection.close()
        return found, count

    def untouched(self):
        """What is cached of rows that nobody writes, by cache."""
        kept = {}
        with self.connect() as connection, connection.cursor() as cursor:
            for view in self.drawing.views:
                if not view.is_quiet or self.is_off(view):
                    continue
                part = view.parts[0]
                cursor.execute(part.query + (" and " if " where " in part.query else " where ") + f"r.id >= {QUIET}")
                quiet = {}
                part.add_to(quiet, cursor.fetchall())
                for name in view.caches:
                    cache = self.held.redis[name].client()
                    kept.update({(name, key): view.number for key in quiet if cache.exists(key)})
        connection.close()
        return kept

    def still_there(self, kept):
        gone = [f"{key!r} in {name}" for name, key in kept if not self.held.redis[name].client().exists(key)]
        self.tallies["untouched values"] += len(kept)
        if gone:
            raise Failure("nobody touched the rows of these, and they are gone:\n  " + "\n  ".join(gone[:10]) + "\n" + self.evictd.log_tail(10))

    def command(self, *arguments):
        done = self.evictd.command(*arguments)
        self.tallies[f"{arguments[0]} ends with {done.returncode}: {re.sub(chr(39) + '[^' + chr(39) + ']*' + chr(39) + '|[0-9]+', '_', done.stderr.strip())[:100]}"] += 1

    def audit(self, *more):
        found = self.evictd.command("audit", "--json", "--sample", "100000", "--rate", "10000", *more)
        lines = found.stdout.strip().splitlines()
        try:
            counts = json.loads(lines[-1])
        except (ValueError, IndexError):
            self.tallies[f"audit ends with {found.returncode}: {re.sub(chr(39) + '[^' + chr(39) + ']*' + chr(39), '_', found.stderr.strip())[:120]}"] += 1
            return
        for name in ("fresh", "stale", "in_flight", "unreadable"):
            self.tallies[f"audited {name}"] += counts[name]
        off = [line for line in lines[:-1] if not any(f'"{name}"' in line for name in self.off)]
        if counts["stale"] and off:
            raise Failure("every value is true, or about to be, and the audit says:\n  " + "\n  ".join(off[:5]))

    def close(self, failed):
        self.stopping = True
        for thread in self.threads:
            thread.join(15)
        if self.evictd is not None:
            self.evictd.stop()
        if failed:
            print(f"  troubles: {dict(self.troubles)}")
        for kind, count in self.troubles.items():
            self.tallies["trouble " + re.sub(r'"[^"]*"|\d+', "_", kind)[:90]] += count
        try:
            self.postgres.execute(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{self.database}'", database="postgres")
            for (name,) in self.sql("select gid from pg_prepared_xacts where database = current_database()"):
                self.sql(f"rollback prepared '{name}'")
            self.postgres.execute(f"drop database {self.database} with (force)", database="postgres")
        except psycopg2.Error as error:
            print(f"  {error}")


def oracle_of_lag(evictd):
    def caught_up():
        metrics = evictd.metrics()
        assert metrics.get("evictd_lag_seconds") == 0, f"evictd_lag_seconds is {metrics.get('evictd_lag_seconds')}"
        assert not metrics.get("evictd_gap_unresolved"), "a gap is unresolved"
        assert metrics.get("evictd_inflight_transactions") == 0, "transactions are unfinished"
        return True
    eventually("evictd has caught up", caught_up, 60)


def run(seed, held, program, tallies, rounds, shown=False):
    """-> None, or why it failed."""
    world, failed = None, None
    try:
        world = World.__new__(World)
        world.threads, world.troubles, world.evictd = [], collections.Counter(), None
        world.__init__(seed, held, program, tallies, shown)
        world.play(rounds)
    except (Failure, AssertionError) as error:
        failed = str(error)
    except Exception as error:  # pylint: disable=broad-except
        failed = f"the worlds themselves: {type(error).__name__}: {error}\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
    world.close(failed)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--program", default="evictd")
    options = parser.parse_args()
    held, tallies = Servers(), collections.Counter()
    minutes = options.minutes if options.minutes is not None else 0 if options.seed is not None else 1
    end = time.monotonic() + minutes * 60
    number, bad = options.seed if options.seed is not None else random.randrange(10**6), []
    try:
        while True:
            print(f"seed {number}", flush=True)
            failed = run(number, held, options.program, tallies, options.rounds, options.show)
            tallies["seeds"] += 1
            if failed:
                bad.append(number)
                print(f"FAILED: seed {number}\n{failed}", flush=True)
                if not options.keep_going:
                    break
            number += 1
            if time.monotonic() > end:
                break
    finally:
        held.stop()
    print("\n".join(f"{count:8} {name}" for name, count in sorted(tallies.items())))
    print(f"{tallies['seeds']} seeds, {len(bad)} failed {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
