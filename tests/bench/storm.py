"""A job rewrites 50,000 popular rows in one transaction, under readers. How many reads find their value before, right after and later,
how often the database is asked, and how long a read takes: with plain fills, checked fills, `mode: stale`, and `refresh`. Started by itself
or by run.sh (`--case storm`). Readers are threads of storm_readers.cpp, each with a connection to Redis, 20 connections to PostgreSQL among
them; keys are drawn evenly.

  before   the ten seconds before the job
  during   from its commit until every key is back, 60 seconds at most
  after    the ten seconds after that
  asked    SELECTs of readers per second; in brackets keys that evictd asked for"""

import argparse
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


class Storm:
    def __init__(self, folder, options):
        self.options = options
        self.folder = folder
        self.postgres = servers.Postgres(f"{folder}/postgres", {"max_wal_size": "4GB"}).start()
        self.postgres.execute("create database shop", database="postgres")
        self.postgres.execute("create table items (id int primary key, version int not null, name text not null) with (fillfactor = 40);"
                              f"insert into items select i, 0, repeat('x', 200) from generate_series(1, {options.rows}) i")
        self.redis = servers.Redis(f"{folder}/redis").start()

    def fill_all(self, level):
        cache = self.redis.client()
        rows = self.postgres.execute("select id, row_to_json(i)::text, pg_current_snapshot()::text from items i")
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
                                 str(self.options.pause_ms), "3600", level], log=f"{self.folder}/readers.log", pipe=True)
        lines = []

        def listen():
            for line in iter(readers.stdout.readline, b""):
                lines.append(json.loads(line))

        listener = threading.Thread(target=listen)
        listener.start()
        time.sleep(WARM_UP + BEFORE)
        self.postgres.execute("update items set version = version + 1")
        committed = time.time()
        before = lines[-BEFORE:] if len(lines) >= BEFORE else lines
        before = [line for line in before if line["at_us"] / 1e6 < committed - 1]
        back = None
        while back is None and time.time() < committed + DURING:
            time.sleep(0.5)
            metrics = evictd.metrics()
            if metrics.sum("evictd_refresh_total") >= self.options.rows and metrics.sum("evictd_refresh_waiting") == 0:
                back = time.time()
        end = back or time.time()
        filled = evictd.metrics().sum("evictd_refresh_total", outcome="filled")
        time.sleep(AFTER + 1)
        process.end(readers)
        listener.join()
        during = [line for line in lines if committed < line["at_us"] / 1e6 - 1 <= end]
        after = [line for line in lines if end < line["at_us"] / 1e6 - 1]
        result = {"before": self.summed(before, 0), "during": self.summed(during, filled), "after": self.summed(after, 0)}
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
    def summed(lines, filled):
        took = [one for line in lines for one in line["took_us"]]
        return {"reads": len(took), "hits": sum(line["hits"] for line in lines), "stale": sum(line["stale"] for line in lines),
                "loads": sum(line["loads"] for line in lines), "waits": sum(line["waits"] for line in lines), "filled": filled, "seconds": max(len(lines), 1),
                "p50_ms": quantile(took, 0.5), "p99_ms": quantile(took, 0.99), "max_ms": quantile(took, 1)}


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
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
