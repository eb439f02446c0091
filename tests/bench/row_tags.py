"""What row tags cost Redis: its own CPU, by the number of tags that a value carries and of values that a row is in, with a set per
tag (members) and with a marker per tag (lazy). Started by itself or by run.sh (`--case row-tags`).

  fill     evictd_fill of a value whose memberships and markers are there, as after an earlier fill
  first    the same into an empty Redis
  get      evictd_get as a reader of that mode asks: lazy names the tags, members none
  memory   of Redis, per value, all told
  row      a row changes: from the event to the values being gone (members) or stale (lazy), by a real evictd

CPU is that of the redis-server process (INFO cpu). Values have 200 bytes, rows are drawn at random from 10,000."""

import argparse
import os
import random
import shutil
import statistics
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import daemon, oracle, process, servers  # noqa: E402
from wire import Wire, words  # noqa: E402

ROWS = 10_000
TAGS = (0, 1, 2, 5, 10, 20, 50)
VALUES_OF_A_ROW = (1, 5, 25)
MODES = ("members", "lazy")
VALUE = b"v" * 200
SEES_ALL = "4000000:4000000:"


def tag_of(mode, row):
    return f"tag:row:items:{row}" if mode == "members" else f"evictd:{{tag:row:items:{row}}}"


def marker_of(key):
    return f"evictd:{{{key}}}"


class Cost:
    def __init__(self, redis, values):
        self.client = redis.client()
        self.wire = Wire(redis.port)
        self.values = values

    def cpu_us(self, work):
        """Microseconds of the process that `work` took."""
        before = self.client.info("cpu")
        work()
        after = self.client.info("cpu")
        return 1e6 * sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))

    def fills(self, mode, rows_of_values, snapshot=SEES_ALL):
        return [words("FCALL", "evictd_fill", 2 + len(rows), f"page:{i}", marker_of(f"page:{i}"), *(tag_of(mode, row) for row in rows), snapshot,
                      600_000, VALUE) for i, rows in enumerate(rows_of_values)]

    def gets(self, mode, rows_of_values):
        return [words("FCALL", "evictd_get", 2 + (len(rows) if mode == "lazy" else 0), f"page:{i}", marker_of(f"page:{i}"),
                      *(tag_of(mode, row) for row in (rows if mode == "lazy" else ())), "LEASE", 2000)
                for i, rows in enumerate(rows_of_values)]

    def of_readers(self, mode, tags, seed):
        draw = random.Random(seed)
        rows = [draw.sample(range(1, ROWS + 1), tags) for _ in range(self.values)]
        fills, gets = self.fills(mode, rows), self.gets(mode, rows)
        self.client.flushall()
        empty = self.client.info("memory")["used_memory"]
        first = self.cpu_us(lambda: self.wire.send(fills))
        used = self.client.info("memory")["used_memory"]
        assert self.client.exists(f"page:{self.values - 1}"), "the fills were refused"
        fill = self.cpu_us(lambda: self.wire.send(fills))
        get = self.cpu_us(lambda: self.wire.send(gets))
        return {"first": first / self.values, "fill": fill / self.values, "get": get / self.values, "memory": (used - empty) / self.values}


def of_readers(redis, library, values, rounds):
    redis.client().execute_command("FUNCTION", "LOAD", "REPLACE", library)
    cost = Cost(redis, values)
    seen = {(mode, tags): [] for tags in TAGS for mode in MODES}
    for number in range(rounds):
        for (mode, tags), costs in seen.items():
            costs.append(cost.of_readers(mode, tags, f"{number}"))
    return {which: {name: statistics.median(one[name] for one in costs) for name in costs[0]} for which, costs in seen.items()}


RULES = "- {{table: public.items, fill: checked, tags: ['row:items:{{id}}'], tags_mode: {mode}}}\n"


def of_rows(redis, postgres, folder, changed, rounds):
    """Microseconds for each changed row, by mode and by the number of values that it is in."""
    seen = {(mode, values): [] for values in VALUES_OF_A_ROW for mode in MODES}
    for mode in MODES:
        redis.client().flushall()
        evictd = daemon.Evictd(f"{folder}/{mode}", postgres.url(), redis.url(), RULES.format(mode=mode), slot=f"rows_{mode}",
                               publication=f"rows_{mode}").start()
        for number in range(rounds):
            for values in VALUES_OF_A_ROW:
                client = redis.client()
                cost = Cost(redis, values * changed)
                # Each row is in so many values, each value of one row: what is counted is the row's.
                rows = [[1 + number * changed + i // values] for i in range(values * changed)]
                cost.wire.send(cost.fills(mode, rows, postgres.value("select pg_current_snapshot()::text")))
                oracle.converge(postgres, evictd)

                def change():
                    postgres.execute("update items set n = n + 1 where id between %s and %s",
                                     (1 + number * changed, (number + 1) * changed))
                    oracle.converge(postgres, evictd)

                seen[mode, values].append(cost.cpu_us(change) / changed)
                gone = [client.execute_command("FCALL", "evictd_get", 3, f"page:{i}", marker_of(f"page:{i}"), tag_of(mode, rows[i][0]))[0]
                        for i in (0, len(rows) - 1)]
                assert gone == [b"miss" if mode == "members" else b"stale"] * 2, gone
                client.flushall()
        evictd.kill()
    return {which: statistics.median(costs) for which, costs in seen.items()}


def table(readers, rows):
    lines = ["readers: microseconds of Redis's CPU per call, and bytes per value", "tags" + "".join(
        f"{mode + ' ' + name:>16}" for mode in MODES for name in ("first", "fill", "get", "memory"))]
    for tags in TAGS:
        lines.append(f"{tags:>4}" + "".join(f"{readers[mode, tags][name]:>16,.1f}" for mode in MODES for name in ("first", "fill", "get", "memory")))
    if rows:
        lines += ["", "a changed row: microseconds of Redis's CPU, by the values that it is in", "values" + "".join(f"{mode:>16}" for mode in MODES)]
        lines += [f"{values:>6}" + "".join(f"{rows[mode, values]:>16,.1f}" for mode in MODES) for values in VALUES_OF_A_ROW]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=["row-tags"], help="as run.sh was asked")
    parser.add_argument("--values", type=int, default=5000)
    parser.add_argument("--changed", type=int, default=1000, help="rows of the transaction whose rows are counted")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = process.temporary_folder("evictd-rows-")
    try:
        redis = servers.Redis(f"{folder}/redis").start()
        postgres = servers.Postgres(f"{folder}/postgres").start()
        postgres.execute("create database shop", database="postgres")
        postgres.execute(f"create table items (id int primary key, n int not null); insert into items select i, 0 from generate_series(1, {ROWS}) i")
        rows = of_rows(redis, postgres, folder, options.changed, options.rounds)
        readers = of_readers(redis, redis.client().execute_command("FUNCTION", "LIST", "WITHCODE")[0][7], options.values, options.rounds)
        print(table(readers, rows))
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
