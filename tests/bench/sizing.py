"""What docs/sizing.md states and no other case measures: bytes. Of Redis, per marker; of the network, per row and per key; of evictd, idle
and with a backlog. Started by itself or by run.sh (`--case sizing`). Speed is no part of it, so a busy machine changes nothing.

  value       a value of 100 bytes, as a yardstick of Redis's memory
  tombstone   beside a key of `fill: checked` whose row changed in one transaction, in ten
  fill        beside a value that evictd_fill stored
  stream      what PostgreSQL sends for a changed row, by the row's width and identity, transactions of one row
  Redis       what evictd sends and receives for a key, second deletes included
  memory      of evictd: idle, and the most while a backlog waits for one cache that is away, and for two"""

import argparse
import json
import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import daemon, oracle, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402
from wire import Wire, words  # noqa: E402
import workload  # noqa: E402

KEY = "item:%d"
STREAM_ROWS = 1000
FRAME = 30  # bytes around each message of the stream: CopyData (5) and XLogData (25)
KEEP = "tombstone_ttl: 1h"  # none ends while it is counted


def used(redis):
    return redis.client().info("memory")["used_memory"]


def network(redis):
    """(received, sent) by this Redis, in bytes."""
    stats = redis.client().info("stats")
    return stats["total_net_input_bytes"], stats["total_net_output_bytes"]


def of_redis(folder, postgres, redis, rows):
    wire = Wire(redis.port)
    cache, result = redis.client(), {}
    empty = used(redis)
    wire.send([words("SET", KEY % i, workload.VALUE) for i in range(1, rows + 1)])
    result["value"] = (used(redis) - empty) / rows
    for fill in ("plain", "checked"):
        cache.flushall()
        evictd = daemon.Evictd(f"{folder}/{fill}", postgres.url(), redis.url(), workload.RULES % fill, slot=fill, publication=fill,
                               redis_more=KEEP).start()
        wire.send([words("SET", KEY % i, workload.VALUE) for i in range(1, rows + 1)])
        before, changes = network(redis), cache.dbsize()
        assert changes >= rows
        workload.one_transaction(postgres, rows)
        oracle.converge(postgres, evictd)
        after = network(redis)
        result[f"network_{fill}"] = [(after[way] - before[way]) / rows for way in (0, 1)]
        if fill == "checked":
            assert not cache.exists(KEY % 1)
            result["tombstone_1"] = (used(redis) - empty) / rows
            for _ in range(9):
                workload.one_transaction(postgres, rows)
            oracle.converge(postgres, evictd)
            result["tombstone_10"] = (used(redis) - empty) / rows
            token = postgres.value("select pg_current_snapshot()::text")
            wire.send([words("FCALL", "evictd_fill", 2, KEY % i, "evictd:{%s}" % (KEY % i), token, 3_600_000, workload.VALUE)
                       for i in range(1, rows + 1)])
            assert cache.exists(KEY % rows), "the fills were refused"
            result["fill_and_value"] = (used(redis) - empty) / rows
            # A value with a lifetime, to take its part away.
            cache.flushall()
            wire.send([words("SET", KEY % i, workload.VALUE, "PX", 3_600_000) for i in range(1, rows + 1)])
            result["value_with_ttl"] = (used(redis) - empty) / rows
            result["fill"] = result["fill_and_value"] - result["value_with_ttl"]
        assert evictd.stop() == 0
        postgres.execute("select pg_drop_replication_slot(%s)", (fill,))
    return result


def of_stream(postgres):
    """{(width, identity): bytes of a changed row}, with its begin and commit."""
    result = {}
    for width in (100, 1000):
        for identity in ("default", "full"):
            postgres.execute(f"drop table if exists streamed cascade; create table streamed (id int primary key, version int not null, body text not null);"
                             f"insert into streamed select i, 0, repeat('x', {width}) from generate_series(1, {STREAM_ROWS}) i;"
                             f"alter table streamed replica identity {identity};"
                             f"drop publication if exists streamed; create publication streamed for table streamed")
            postgres.execute("select pg_create_logical_replication_slot('streamed', 'pgoutput')")
            with postgres.connect().cursor() as cursor:
                for number in range(1, STREAM_ROWS + 1):
                    cursor.execute("update streamed set version = version + 1 where id = %s", (number,))
            messages, size = postgres.execute("select count(*), sum(length(data)) from pg_logical_slot_peek_binary_changes("
                                              "'streamed', null, null, 'proto_version', '1', 'publication_names', 'streamed')")[0]
            result[f"{width} {identity}"] = (int(size) + FRAME * messages) / STREAM_ROWS
            postgres.execute("select pg_drop_replication_slot('streamed')")
    return result


def of_daemon(folder, postgres, redis, second, rows):
    result = {}
    for name, caches in (("one", [redis]), ("two", [redis, second])):
        for server in caches:
            server.client().flushall()
        text = "".join(f"  {n}: {{redis: {{url: {server.url()}}}, park_after: never}}\n" for n, server in zip("ab", caches))
        evictd = daemon.Evictd(f"{folder}/{name}", postgres.url(), "", workload.RULES % "plain", slot=name, publication=name, caches=text).start()
        result[f"{name}_idle"] = evictd.memory_bytes() / 2**20
        for server in caches:
            server.stop()
        begin = postgres.value("select pg_current_wal_insert_lsn()")
        for _ in range(4):
            workload.many_transactions(postgres, rows)

        def waits():
            metrics = evictd.metrics()
            return metrics.sum("evictd_source_lag_bytes") > 0 and metrics.sum("evictd_inflight_transactions") > 0

        eventually("a backlog waits", waits, 60)
        last = -1
        while last != (last := evictd.metrics().sum("evictd_inflight_bytes")):
            eventually("it has read on for a moment", lambda: True, 1, every=1)
        result[f"{name}_backlog"] = evictd.memory_bytes("VmHWM") / 2**20
        result[f"{name}_inflight"] = last / 2**20
        result[f"{name}_wal_per_row"] = int(postgres.value("select pg_current_wal_insert_lsn() - %s::pg_lsn", (begin,))) / rows / 4
        for server in caches:
            server.start()
        oracle.converge(postgres, evictd, seconds=300)
        result[f"{name}_after"] = evictd.memory_bytes("VmHWM") / 2**20
        assert evictd.stop() == 0
        postgres.execute("select pg_drop_replication_slot(%s)", (name,))
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", action="append", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = process.temporary_folder("evictd-sizing-")
    try:
        postgres = servers.Postgres(f"{folder}/postgres", {"max_wal_size": "4GB", "autovacuum": "off"}).start()
        postgres.execute("create database shop", database="postgres")
        workload.create_table(postgres, options.rows)
        redis, second = (servers.Redis(f"{folder}/redis{n}").start() for n in (1, 2))
        result = {"redis": of_redis(folder, postgres, redis, options.rows), "stream": of_stream(postgres),
                  "evictd_mib": of_daemon(folder, postgres, redis, second, options.rows)}
        for place, figures in result.items():
            for name, figure in figures.items():
                print(f"{place:12} {name:20} {figure if isinstance(figure, list) else f'{figure:.1f}'}")
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(result, file, indent=1)
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
