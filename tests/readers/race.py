#!/usr/bin/env python3
"""Writers, readers and evictd race for one cache, on a real PostgreSQL (fsync on) and a real Redis. Prints a table:
which way of filling let a stale value into the cache, how often, and for how long.

    tests/readers/race.py                        every way, 20000 fills each: a minute or two
    tests/readers/race.py --fills 1000000 checked

How staleness is judged: race/judge.h. In short, the values are versions of their rows, MONITOR tells in which order
Redis executed evictd's commands and the readers' fills, and each single fill is compared with what was ordered away
before it. After the load, eight rows that were left alone change once more while PostgreSQL keeps their commits
invisible (a synchronous standby that does not exist): evictd's deletes come long before readers can see the new rows,
and no later change mends what goes wrong. Then everything comes to rest, and every cached value is compared with its row."""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import daemon, oracle, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402
from standby import Standby  # noqa: E402

ROWS = 1000
LAST_ROWS = 8  # race/load.h
SETTLE_MS = 1000


@dataclasses.dataclass
class Way:
    """A way to fill, and what happens meanwhile."""
    name: str
    fill: str
    level: str
    program: str = "evictd"
    token: str = "snapshot"
    on_a_miss: bool = False
    pause_ms_max: int = 20
    hold_seconds: float = 1.5   # longer than settle: time alone must not count as visible
    tombstone_ttl: int = 60
    long_transaction: bool = False
    standby_delay_ms: int = 0
    writer_pause_us: int = 0
    refresh: bool = False   # evictd fills what it has deleted, as one more reader
    share: float = 1        # of the fills asked for: some ways are slower


WAYS = {way.name: way for way in [
    # Readers that are cache-aside: what is cached stays, right or wrong, until somebody deletes it.
    Way("control", "plain", "plain", program="evictd_broken_settle", on_a_miss=True, pause_ms_max=400, share=0.1),
    Way("plain", "plain", "plain", on_a_miss=True, pause_ms_max=400, share=0.1),
    Way("leased", "checked", "leased", share=0.1),
    # Readers that fill all the time, whether the value is there or not.
    Way("checked", "checked", "checked"),
    Way("refreshed", "checked", "checked", refresh=True, share=0.5),
    Way("broken-token", "checked", "checked", token="broken"),
    Way("long-hold", "checked", "checked", tombstone_ttl=3, hold_seconds=5),
    Way("long-transaction", "checked", "checked", long_transaction=True),
    Way("standby", "checked", "checked", token="xmin", standby_delay_ms=500, share=0.2),
]}


class Race:
    def __init__(self, way, folder, fills, seconds, readers):
        self.way = way
        self.fills = fills
        self.postgres = servers.Postgres(f"{folder}/postgres", {"max_wal_size": "4GB"}).start()
        self.postgres.execute("create database shop", database="postgres")
        self.postgres.execute(
            f"create table items (id int primary key, version bigint not null) with (fillfactor = 50); create table others (id int);"
            f"insert into items select i, 0 from generate_series(1, {ROWS}) i")
        self.redis = servers.Redis(f"{folder}/redis").start()
        self.evictd = daemon.Evictd(
            f"{folder}/evictd", self.postgres.url(), self.redis.url(),
            f"- {{table: public.items, keys: ['item:{{id}}'], fill: {way.fill}{', settle: %dms' % SETTLE_MS if way.fill == 'plain' else ''}"
            + (", refresh: {query: 'select id, version from items where id = any($1)', ttl: 10m, per_second: 100000}" if way.refresh else "") + "}\n",
            redis_more=f"tombstone_ttl: {way.tombstone_ttl}s", program=way.program).start()
        read_from = self.postgres
        if way.standby_delay_ms:
            read_from = Standby(f"{folder}/standby", self.postgres, way.standby_delay_ms).start()
        arguments = {
            "postgres": self.postgres.url(), "readers-postgres": read_from.url(), "redis-port": self.redis.port,
            "rows": ROWS, "level": way.level, "token": way.token, "on-a-miss": int(way.on_a_miss), "readers": readers,
            "pause-us-max": way.pause_ms_max * 1000, "writer-pause-us": way.writer_pause_us, "seconds": seconds,
            "bound-us": int(SETTLE_MS * 1.1 * 1000)}
        self.log = f"{folder}/race.log"
        self.program = process.start(
            [daemon.binary("reader_race"), *(word for name, value in arguments.items() for word in (f"--{name}", str(value)))],
            log=self.log, pipe=True)

    def step(self, text):
        self.program.stdin.write(text.encode() + b"\n")
        self.program.stdin.flush()
        line = self.program.stdout.readline()
        assert line, open(self.log, encoding="utf-8").read()
        return json.loads(line)

    def hold_commits(self, hold):
        self.postgres.execute(f"alter system {'set' if hold else 'reset'} synchronous_standby_names{' = %s' % repr('nobody') if hold else ''}")
        self.postgres.execute("select pg_reload_conf()")
        eventually("PostgreSQL has read its settings",
                   lambda: (self.postgres.value("show synchronous_standby_names") == "nobody") == hold)

    def invalidations(self):
        return self.evictd.metrics().sum("evictd_invalidations_total", kind="key")

    def run(self):
        if self.way.long_transaction:
            writer = self.postgres.connect(autocommit=False)
            writer.cursor().execute("insert into others values (1)")
        self.step(f"run {int(self.fills * self.way.share)}")
        self.step("quiet")
        oracle.converge(self.postgres, self.evictd)
        before = self.invalidations()
        self.hold_commits(True)
        self.step("last")
        eventually("evictd has invalidated for the invisible commits", lambda: self.invalidations() >= before + LAST_ROWS, 60)
        released = time.monotonic() + self.way.hold_seconds
        eventually("held for as long as this way says", lambda: time.monotonic() >= released, self.way.hold_seconds + 60)
        self.hold_commits(False)
        self.step("written")
        oracle.converge(self.postgres, self.evictd)
        if self.way.standby_delay_ms:
            # Readers see the last rows in the end; the rest is the judge's.
            eventually("readers fill what they see last", lambda: self.redis.client().exists("item:1"), 30)
        result = self.step("finish")
        result["refreshed"] = int(self.evictd.metrics().sum("evictd_refresh_total", outcome="filled"))
        return result

    def stop(self):
        process.end_all()


def race(way, fills, seconds=600, readers=3):
    folder = process.temporary_folder("evictd-race-")
    one = None
    try:
        one = Race(way, folder, fills, seconds, readers)
        return one.run()
    finally:
        if one is not None and not one.evictd.is_running():
            print(one.evictd.log_tail(), file=sys.stderr)
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


COLUMNS = [
    ("fills", lambda r: f"{r['fills']:,}"),
    ("per second", lambda r: f"{r['fills_in_that_time'] / r['seconds']:,.0f}"),
    ("rejected", lambda r: f"{100 * r['rejected'] / max(r['fills'], 1):.2f} %"),
    ("commits", lambda r: f"{r['commits']:,}"),
    ("stale fills", lambda r: f"{r['stale_fills'] + r['stale_kept']:,}"),
    ("longest stale ms", lambda r: f"{r['longest_stale_ms']:,.0f}"),
    ("stale in the end", lambda r: f"{r['stale_left']:,} of {r['values_left']:,}"),
    ("slowest reader ms", lambda r: f"{r['slowest_reader_ms']:,.0f}"),
]


def table(results):
    lines = [["way"] + [title for title, _ in COLUMNS]]
    lines += [[name] + [text(result) for _, text in COLUMNS] for name, result in results.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths)))
                     for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", metavar="way", help="; ".join(WAYS))
    parser.add_argument("--fills", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=600, help="end a way's load after this, whatever its fills")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writer-pause-us", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    for name in options.ways or WAYS:
        if name not in WAYS:
            parser.error(f"there is no way '{name}', expected one of {', '.join(WAYS)}")
        way = dataclasses.replace(WAYS[name], writer_pause_us=options.writer_pause_us)
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = race(way, options.fills, options.seconds, options.readers)
    print(table(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
