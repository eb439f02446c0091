"""The benchmark; started by run.sh, which explains the options."""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import latency  # noqa: E402
import readers  # noqa: E402
import workload  # noqa: E402
import yardstick  # noqa: E402
from harness import daemon, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402

PUBLICATION = "bench"
# No checkpoint, vacuum or WAL recycling inside a measurement; everything that decoding itself depends on
# is PostgreSQL's default.
POSTGRES_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
CASES = ("large", "many", "latency", "memory", "readers")


def say(text=""):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.postgres = servers.Postgres(f"{folder}/postgres", POSTGRES_SETTINGS).start()
        self.postgres.execute("create database shop", database="postgres")
        self.redis = servers.Redis(f"{folder}/redis").start()
        self.daemons = 0

    def prepare(self, rows):
        workload.create_table(self.postgres, rows)
        self.postgres.execute(f"drop publication if exists {PUBLICATION}; create publication {PUBLICATION} for table items")

    def new_evictd(self, fill):
        """A daemon with a slot and a Redis database of its own. It has run once, so that slot and record
        exist before the load, as they do in a service that was stopped and starts again."""
        number = self.daemons % 60
        self.daemons += 1
        self.redis.client(number).flushdb()
        one = daemon.Evictd(f"{self.folder}/evictd{self.daemons}", self.postgres.url(), self.redis.url(number),
                            workload.RULES % fill, slot=f"evictd{self.daemons}", publication=PUBLICATION)
        one.database = number
        one.start()
        code = one.stop()
        assert code == 0, f"evictd ended with {code}:\n{one.log_tail()}"
        return one

    def drop_slots(self):
        for (slot,) in self.postgres.execute("select slot_name from pg_replication_slots"):
            eventually(f"slot {slot} is free", lambda slot=slot: not self.postgres.value(
                "select active from pg_replication_slots where slot_name = %s", (slot,)))
            self.postgres.execute("select pg_drop_replication_slot(%s)", (slot,))

    def drain_by_evictd(self, evictd, rows, end_lsn):
        """Starts evictd on what its slot holds."""
        begin = time.monotonic()
        evictd.start(ready=False)

        def applied():
            code, text = evictd.http("/metrics")
            assert evictd.is_running(), f"evictd ended:\n{evictd.log_tail()}"
            return code == 200 and daemon.Metrics(text).sum("evictd_invalidations_total", kind="key") >= rows

        eventually("everything is applied", applied, 1800, every=0.01)
        seconds_applied = time.monotonic() - begin
        cpu_applied = evictd.cpu_seconds()
        tombstones = self.redis.client(evictd.database).dbsize()
        eventually("everything is acknowledged", lambda: self.postgres.value(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s",
            (end_lsn, evictd.slot)), 1800, every=0.01)
        seconds_acknowledged = time.monotonic() - begin
        metrics = evictd.metrics()
        result = {
            "rows_per_second": rows / seconds_applied,
            "rows_per_second_until_acknowledged": rows / seconds_acknowledged,
            "seconds": seconds_applied,
            "cpu_us_per_row": cpu_applied / rows * 1e6,
            "cpu_us_per_row_until_acknowledged": evictd.cpu_seconds() / rows * 1e6,
            "memory_max_mib": evictd.memory_bytes("VmHWM") / 2**20,
            "keys_in_redis": tombstones,
        }
        assert metrics.sum("evictd_gaps_total") == 0, f"a gap was repaired instead of changes applied:\n{evictd.log_tail()}"
        assert evictd.stop() == 0
        self.redis.client(evictd.database).flushdb()
        return result

    def throughput(self, rows, load, fills):
        """The same load read by pg_recvlogical and by evictd with each kind of fill, `rounds` times, in an
        order that turns."""
        self.prepare(rows)
        readers = {}
        for number in range(self.options.rounds):
            slot = f"yardstick{number}"
            self.postgres.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
            readers["pg_recvlogical", number] = slot
            for fill in fills:
                readers[f"evictd, fill: {fill}", number] = self.new_evictd(fill)
        say(f"  loading {rows} rows")
        load(self.postgres, rows)
        end_lsn = workload.end_of_load(self.postgres)
        names = ["pg_recvlogical"] + [f"evictd, fill: {fill}" for fill in fills]
        results = {name: [] for name in names}
        for number in range(self.options.rounds):
            for name in names[number % len(names):] + names[:number % len(names)]:
                reader = readers[name, number]
                if name == "pg_recvlogical":
                    seconds, cpu = yardstick.drain(self.postgres, reader, PUBLICATION, end_lsn)
                    result = {"rows_per_second": rows / seconds, "seconds": seconds, "cpu_us_per_row": cpu / rows * 1e6}
                else:
                    result = self.drain_by_evictd(reader, rows, end_lsn)
                results[name].append(result)
                say(f"  round {number + 1}: {name}: {result['rows_per_second']:,.0f} rows/s")
        self.drop_slots()
        summary = {name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                   for name, rounds in results.items()}
        for name in names[1:]:
            summary[name]["of_pg_recvlogical"] = summary[name]["rows_per_second"] / summary["pg_recvlogical"]["rows_per_second"]
        return {"rows": rows, "median": summary, "rounds": results}

    def memory(self, rows):
        """What evictd uses idle, and while one transaction of `rows` rows passes."""
        self.prepare(rows)
        evictd = self.new_evictd("plain")
        evictd.start()
        # Idle: nothing to do since two heartbeats of the metrics.
        time.sleep(2)
        idle = evictd.memory_bytes()
        say(f"  updating {rows} rows in one transaction")
        workload.one_transaction(self.postgres, rows)
        end_lsn = self.postgres.value("select pg_current_wal_flush_lsn()::text")
        eventually("everything is acknowledged", lambda: self.postgres.value(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s",
            (end_lsn, evictd.slot)), 3600, every=0.1)
        metrics = evictd.metrics()
        applied = metrics.sum("evictd_invalidations_total", kind="key")
        assert applied >= rows, f"only {applied} of {rows} rows were applied"
        result = {"rows": rows, "idle_mib": idle / 2**20, "max_mib": evictd.memory_bytes("VmHWM") / 2**20,
                  "cpu_us_per_row_until_acknowledged": evictd.cpu_seconds() / rows * 1e6}
        assert evictd.stop() == 0
        self.redis.client(evictd.database).flushdb()
        self.drop_slots()
        return result

    def latency(self, seconds):
        self.prepare(100_000)
        evictd = self.new_evictd("plain")
        evictd.start()
        result = latency.measure(self.postgres, self.redis.client(evictd.database), evictd, seconds)
        assert evictd.stop() == 0
        self.drop_slots()
        return result

    def readers(self):
        self.prepare(1)
        library = self.new_evictd("checked").command("lua", check=True).stdout
        result = readers.measure(self.redis, library, self.options.requests, self.options.rounds)
        self.drop_slots()
        return result


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) / 2**20

    def first_line(*command):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().splitlines()[0]

    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": platform.release(),
            "postgresql": first_line(f"{servers.postgres_programs()}/postgres", "--version"),
            "redis": first_line(servers.redis_program(), "--version"),
            "load_average_at_start": os.getloadavg()[0]}


def table(report):
    here = report["machine"]
    lines = [f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB; {here['postgresql']}; {here['redis'].split(' sha')[0]}"]
    for case, title in (("large", "one transaction"), ("many", "single-row transactions")):
        if case not in report:
            continue
        lines += ["", f"{report[case]['rows']:,} rows, {title}: every row one key new to Redis, median of {len(report[case]['rounds']['pg_recvlogical'])}",
                  f"  {'':26} {'rows/s':>9} {'ratio':>6} {'until acknowledged':>19} {'CPU us/row':>11} {'max MiB':>8}"]
        for name, one in report[case]["median"].items():
            ratio = f"{one['of_pg_recvlogical']:.2f}" if "of_pg_recvlogical" in one else "1"
            acknowledged = f"{one['rows_per_second_until_acknowledged']:,.0f}" if "rows_per_second_until_acknowledged" in one else ""
            memory = f"{one['memory_max_mib']:.0f}" if "memory_max_mib" in one else ""
            lines.append(f"  {name:26} {one['rows_per_second']:>9,.0f} {ratio:>6} {acknowledged:>19} {one['cpu_us_per_row']:>11.2f} {memory:>8}")
    if "latency" in report:
        one = report["latency"]
        lines += ["", f"{one['transactions_per_second']:,.0f} single-row transactions per second for {one['seconds']} s, milliseconds",
                  f"  {'':50} {'p50':>8} {'p99':>8}"]
        for name, text in (("histogram", "commit to Redis reply, evictd's histogram"),
                           ("client_after_commit", "COMMIT returned to key gone, a polling client"),
                           ("client_from_commit", "COMMIT sent to key gone, the same client"),
                           ("commit", "COMMIT itself (the server's flush)")):
            lines.append(f"  {text:50} {one[name]['p50_ms']:>8.2f} {one[name]['p99_ms']:>8.2f}")
    if "memory" in report:
        one = report["memory"]
        lines += ["", f"memory: {one['idle_mib']:.1f} MiB idle, {one['max_mib']:.1f} MiB at most while one transaction of {one['rows']:,} rows passes"]
    if "readers" in report:
        lines += ["", *readers.table(report["readers"])]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--transactions", type=int, default=500_000)
    parser.add_argument("--huge", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--case", action="append", choices=[*CASES, "yardstick"])
    parser.add_argument("--fill", action="append", choices=["plain", "checked"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.quick:
        options.rows, options.transactions, options.huge = 50_000, 25_000, 250_000
        options.rounds, options.seconds, options.requests = 1, 5, 20_000
    cases = options.case or list(CASES)
    fills = options.fill or ["plain", "checked"]
    if "yardstick" in cases:
        cases, fills = ["large", "many"], []
    folder = process.temporary_folder("evictd-bench-")
    report = {"machine": machine(), "options": vars(options)}
    try:
        bench = Bench(options, folder)
        if "large" in cases:
            say(f"one transaction of {options.rows} rows")
            report["large"] = bench.throughput(options.rows, workload.one_transaction, fills)
        if "many" in cases:
            say(f"{options.transactions} single-row transactions")
            report["many"] = bench.throughput(options.transactions, workload.many_transactions, fills)
        if "latency" in cases:
            say(f"2000 transactions per second for {options.seconds} s")
            report["latency"] = bench.latency(options.seconds)
        if "memory" in cases:
            say(f"one transaction of {options.huge} rows")
            report["memory"] = bench.memory(options.huge)
        if "readers" in cases:
            say(f"{options.requests} calls of each kind")
            report["readers"] = bench.readers()
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)
        # Also what was measured before it was stopped: a run takes minutes.
        print(table(report))
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=2)
                file.write("\n")


if __name__ == "__main__":
    main()
