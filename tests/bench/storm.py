"""A job rewrites 50,000 popular rows in one transaction, under readers. How many reads find their value before, right after and later,
how often the database is asked, and how long a read takes: with plain fills, checked fills, `mode: stale`, and `refresh`. Started by itself
or by run.sh (`--case storm`).

Readers are threads of storm_readers.cpp, each with a connection to Redis, 20 connections to PostgreSQL among them. They are paced: each waits
half a second on average between two reads, whatever the reads take, so that 500 of them read a thousand times a second and leave most of two cores
to others. Keys are drawn evenly: every key is as hot as any other, which is the worst case for what has been deleted.

The first table:
  before   the ten seconds before the job
  during   from its commit until every key is back, 60 seconds at most
  after    the ten seconds after that
  asked    SELECTs of readers per second; in brackets keys that evictd asked for
  p99      of all reads of a phase, whether they found their value (a call of Redis) or asked the database and filled it: where a third of them
           miss, it is the p99 of misses

The second table tells hits and misses apart, in milliseconds, and the storm into its parts:
  job        while the transaction runs, before its commit
  deletes    from its commit until evictd has deleted every key
  refilling  from then until all keys are back, or 60 seconds after the commit
  hit        found in Redis without waiting, fresh or stale
  miss       asked PostgreSQL and filled the key; what had to wait for another's fill first is counted under `waited` only
  control    misses that the job has nothing to do with: one read in ten is of a row that it leaves alone and whose value ends a millisecond
             after each fill. What a miss costs in the same moment, without the storm and before it. They are in no other column or table
  woken      how late the system woke a reader's thread that had slept: nothing of evictd, Redis or PostgreSQL is in it, so a p99 that
             grows with this one tells of a machine that has no core free
  Redis      the longest single command of anybody, as Redis's own slow log has it"""

import argparse
import collections
import json
import os
import shutil
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import daemon, oracle, process, servers  # noqa: E402

BEFORE, DURING, AFTER, WARM_UP = 10, 60, 10, 3
SLOW_US = 500  # of a command, for the slow log: shorter, and reading the log would itself be what readers wait for
QUERY = "select id, row_to_json(i)::text from items i where id = any($1)"
REFRESH = ", refresh: {query: \"%s\", ttl: 1h, jitter: 0, per_second: %d}"
WAYS = {  # name: readers' level, the rule
    "plain": ("plain", ""),
    "checked": ("checked", ", fill: checked"),
    "leased": ("leased", ", fill: checked"),
    "stale": ("leased", ", fill: checked, mode: stale, grace: 1h"),
    "refresh": ("leased", ", fill: checked" + REFRESH),
    "stale + refresh": ("leased", ", fill: checked, mode: stale, grace: 1h" + REFRESH),
}


def rule_of(way, per_second):
    text = WAYS[way][1]
    return "- {table: public.items, name: items, keys: ['item:{id}']" + (text % (QUERY, per_second) if "%" in text else text) + "}\n"


def quantile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] / 1000 if values else None


class Read:
    """As storm_readers.cpp prints one."""
    __slots__ = ("begun_us", "took_us", "late_us", "is_control", "end")

    def __init__(self, begun_us, took_us, late_us, is_control, end):
        self.begun_us, self.took_us, self.late_us, self.is_control, self.end = begun_us, took_us, late_us, is_control, end


class Borders:
    """What the phases are: (name, begin, end, longest command of Redis in ms; None: all took less than SLOW_US)."""

    def __init__(self, redis):
        self.cache = redis.client()
        self.phases = []
        self.at = time.time()
        self.cache.slowlog_reset()

    def passed(self, name):
        now = time.time()
        slow = [entry["duration"] for entry in self.cache.slowlog_get(1000)]
        self.cache.slowlog_reset()
        self.phases.append((name, self.at, now, quantile(slow, 1)))
        self.at = now


class Storm:
    def __init__(self, folder, options):
        self.options = options
        self.folder = folder
        self.postgres = servers.Postgres(f"{folder}/postgres", {"max_wal_size": "4GB"}).start()
        self.postgres.execute("create database shop", database="postgres")
        self.controls = max(options.rows // 10, 1)  # rows behind the others, which the job leaves alone
        self.postgres.execute("create table items (id int primary key, version int not null, name text not null) with (fillfactor = 40);"
                              f"insert into items select i, 0, repeat('x', 200) from generate_series(1, {options.rows + self.controls}) i")
        self.postgres.execute("vacuum analyze items")
        self.redis = servers.Redis(f"{folder}/redis", ["--slowlog-log-slower-than", str(SLOW_US), "--slowlog-max-len", "1000"]).start()

    def fill_all(self, level):
        cache = self.redis.client()
        rows = self.postgres.execute("select id, row_to_json(i)::text, pg_current_snapshot()::text from items i where id <= %s", [self.options.rows])
        for first in range(0, len(rows), 1000):
            pipeline = cache.pipeline(transaction=False)
            for number, value, token in rows[first:first + 1000]:
                key = f"item:{number}"
                if level == "plain":
                    pipeline.set(key, value, px=3_600_000)
                else:
                    pipeline.fcall("evictd_fill", 2, key, "evictd:{" + key + "}", token, 3_600_000, value)
            assert all(pipeline.execute())

    def run(self, way):
        level = WAYS[way][0]
        evictd = daemon.Evictd(f"{self.folder}/{way.replace(' ', '')}", self.postgres.url(), self.redis.url(), rule_of(way, self.options.per_second)).start()
        self.fill_all(level)
        oracle.converge(self.postgres, evictd)
        readers = process.start([daemon.binary("storm_readers"), self.postgres.url(), str(self.redis.port), str(self.options.readers), str(self.options.rows),
                                 str(self.controls), str(self.options.pause_ms), "3600", level], log=f"{self.folder}/readers.log", pipe=True)
        reads = []

        def listen():
            for line in iter(readers.stdout.readline, b""):
                reads.extend(Read(*one) for one in json.loads(line))

        listener = threading.Thread(target=listen)
        listener.start()
        time.sleep(WARM_UP)
        border = Borders(self.redis)
        time.sleep(BEFORE)
        acts = evictd.metrics().sum("evictd_invalidations_total")
        border.passed("before")
        self.postgres.execute("update items set version = version + 1 where id <= %s", [self.options.rows])
        border.passed("job")
        committed = border.at
        while evictd.metrics().sum("evictd_invalidations_total") < acts + self.options.rows and time.time() < committed + DURING:
            time.sleep(0.05)
        border.passed("deletes")
        back = None
        while back is None and time.time() < committed + DURING:
            time.sleep(0.25)
            metrics = evictd.metrics()
            if metrics.sum("evictd_refresh_total") >= self.options.rows and metrics.sum("evictd_refresh_waiting") == 0:
                back = time.time()
        border.passed("refilling")
        filled = evictd.metrics().sum("evictd_refresh_total", outcome="filled")
        time.sleep(AFTER)
        border.passed("after")
        time.sleep(1.5)  # a line of the readers is of the second that is over
        process.end(readers)
        listener.join()
        result = {"phases": {name: self.told_apart(reads, begin, end, slowest) for name, begin, end, slowest in border.phases}}
        begin, end = {name: at for name, at, *_ in border.phases}, {name: at for name, _, at, _ in border.phases}
        result["before"] = self.summed(reads, begin["before"], end["before"], 0)
        result["during"] = self.summed(reads, begin["deletes"], end["refilling"], filled)
        result["after"] = self.summed(reads, begin["after"], end["after"], 0)
        result["all_back_seconds"] = back - committed if back and self.is_all_back() else None
        result["refresh"] = {name: evictd.metrics().sum("evictd_refresh_total", outcome=name) for name in ("filled", "fresh", "busy", "rejected", "dropped", "failed", "coalesced")}
        result["delete_p99_seconds"] = evictd.metrics().quantile("evictd_invalidation_latency_seconds", 0.99)
        process.end(evictd.process)
        self.postgres.execute("select pg_drop_replication_slot('evictd')")
        self.redis.client().flushdb()  # with evictd's record: the next one begins anew, and repairs nothing
        return result

    def is_all_back(self):
        """Every key holds the value of its row as it is."""
        cache = self.redis.client()
        version = self.postgres.value("select max(version) from items")
        for first in range(1, self.options.rows + 1, 5000):
            values = cache.mget([f"item:{number}" for number in range(first, min(first + 5000, self.options.rows + 1))])
            if any(value is None or f'"version":{version},'.encode() not in value for value in values):
                return False
        return True

    @staticmethod
    def summed(reads, begin, end, filled):
        reads = [read for read in reads if begin <= read.begun_us / 1e6 < end and not read.is_control]
        took = [read.took_us for read in reads]
        ends = collections.Counter(read.end for read in reads)
        return {"reads": len(reads), "hits": ends["h"] + ends["s"] + ends["S"], "stale": ends["s"] + ends["S"], "loads": ends["S"] + ends["m"] + ends["W"],
                "waits": ends["w"] + ends["W"], "filled": filled, "seconds": end - begin, "p50_ms": quantile(took, 0.5), "p99_ms": quantile(took, 0.99),
                "max_ms": quantile(took, 1)}

    @staticmethod
    def told_apart(reads, begin, end, slowest):
        reads = [read for read in reads if begin <= read.begun_us / 1e6 < end]
        kinds = {"hit": [read.took_us for read in reads if read.end in "hsS" and not read.is_control],
                 "miss": [read.took_us for read in reads if read.end == "m" and not read.is_control],
                 "waited": [read.took_us for read in reads if read.end in "wW" and not read.is_control],
                 "control": [read.took_us for read in reads if read.is_control],
                 "woken": [read.late_us for read in reads]}
        told = {name: {"count": len(of), "p50_ms": quantile(of, 0.5), "p99_ms": quantile(of, 0.99), "max_ms": quantile(of, 1)} for name, of in kinds.items()}
        return {"seconds": end - begin, "redis_slowest_ms": slowest, **told}


def table(results):
    lines = ["| way | hits before | during (of these stale) | after | asked/s before | during | after | p99 ms before | during | after | all back in s |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, one in results.items():
        phases = [one["before"], one["during"], one["after"]]
        hits = [f"{100 * phase['hits'] / max(phase['reads'], 1):.1f} %" for phase in phases]
        hits[1] += f" ({100 * phases[1]['stale'] / max(phases[1]['reads'], 1):.1f} %)"
        asked = [f"{phase['loads'] / phase['seconds']:.0f}" + (f" (+{phase['filled'] / phase['seconds']:.0f})" if phase["filled"] else "") for phase in phases]
        p99 = [f"{phase['p99_ms']:.1f}" for phase in phases]
        back = f"{one['all_back_seconds']:.0f}" if one["all_back_seconds"] else f"more than {DURING}"
        lines.append("| " + " | ".join([name, *hits, *asked, *p99, back]) + " |")
    return "\n".join(lines)


def table_of_phases(results):
    lines = ["| way | phase | s | hits | p50 | p99 | longest | misses | p50 | p99 | waited | p99 | control p50 | p99 | woken p99 | Redis |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]

    def ms(value):
        return "" if value is None else f"{value:.2f}"

    for name, one in results.items():
        for phase, told in one["phases"].items():
            hit, miss, waited, control, woken = (told[kind] for kind in ("hit", "miss", "waited", "control", "woken"))
            lines.append(f"| {name} | {phase} | {told['seconds']:.1f} | {hit['count']} | {ms(hit['p50_ms'])} | {ms(hit['p99_ms'])} | {ms(hit['max_ms'])} "
                         f"| {miss['count']} | {ms(miss['p50_ms'])} | {ms(miss['p99_ms'])} | {waited['count']} | {ms(waited['p99_ms'])} "
                         f"| {ms(control['p50_ms'])} | {ms(control['p99_ms'])} | {ms(woken['p99_ms'])} | {ms(told['redis_slowest_ms']) or f'< {SLOW_US / 1000}'} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", metavar="way", help="; ".join(WAYS))
    parser.add_argument("--case", help="as run.sh passes it on")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--pause-ms", type=int, default=500, help="of a reader between two reads, on average")
    parser.add_argument("--per-second", type=int, default=1000)
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = process.temporary_folder("evictd-storm-")
    results = {}
    try:
        storm = Storm(folder, options)
        for way in options.ways or WAYS:
            if way not in WAYS:
                parser.error(f"there is no way '{way}', expected one of {', '.join(WAYS)}")
            print(f"{way} ...", file=sys.stderr, flush=True)
            results[way] = storm.run(way)
            print(json.dumps(results[way]), file=sys.stderr, flush=True)
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.readers} readers, {options.rows} rows, refresh at {options.per_second}/s")
    print(table(results))
    print(table_of_phases(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
