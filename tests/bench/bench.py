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

import cluster  # noqa: E402
import derived  # noqa: E402
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
CASES = ("large", "many", "latency", "memory", "readers", "rules", "caches", "cluster", "derived")


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

    def new_evictd(self, fill="plain", rules=None, publication=PUBLICATION, second=None):
        """A daemon with a slot and a Redis database of its own. It has run once, so that slot and record
        exist before the load, as they do in a service that was stopped and starts again. `second`: another
        Redis server, for a second cache."""
        number = self.daemons % 60
        self.daemons += 1
        caches = None
        for server in (self.redis, second):
            if server is not None:
                server.client(number).flushdb()
        if second is not None:
            caches = (f"  first: {{redis: {{url: {self.redis.url(number)}}}}}\n"
                      f"  second: {{redis: {{url: {second.url(number)}}}}}\n")
        one = daemon.Evictd(f"{self.folder}/evictd{self.daemons}", self.postgres.url(), self.redis.url(number),
                            rules or workload.RULES % fill, slot=f"evictd{self.daemons}", publication=publication, caches=caches)
        one.database = number
        one.servers = [self.redis]
        one.clear = self.redis.client(number).flushdb
        one.caches = 1 if second is None else 2
        one.start()
        one.cpu_of_a_start = one.cpu_seconds()
        code = one.stop()
        assert code == 0, f"evictd ended with {code}:\n{one.log_tail()}"
        return one

    def drop_slots(self):
        for (slot,) in self.postgres.execute("select slot_name from pg_replication_slots"):
            eventually(f"slot {slot} is free", lambda slot=slot: not self.postgres.value(
                "select active from pg_replication_slots where slot_name = %s", (slot,)))
            self.postgres.execute("select pg_drop_replication_slot(%s)", (slot,))

    def wait_until_acknowledged(self, evictd, end_lsn):
        eventually("everything is acknowledged", lambda: self.postgres.value(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s",
            (end_lsn, evictd.slot)), 3600, every=0.01)

    def drain_by_evictd(self, evictd, rows, end_lsn, are_cached=False, cache_all=None):
        """Starts evictd on what its slot holds. `are_cached`: the values are in Redis before (put there by `cache_all`)."""
        if cache_all is not None:
            cache_all()
        elif are_cached:
            workload.cache_all(self.redis.client(evictd.database), rows)
        redis_before = sum(server.cpu_seconds() for server in evictd.servers)
        begin = time.monotonic()
        evictd.start(ready=False)

        def applied():
            code, text = evictd.http("/metrics")
            assert evictd.is_running(), f"evictd ended:\n{evictd.log_tail()}"
            return code == 200 and daemon.Metrics(text).sum("evictd_invalidations_total", kind="key") >= rows * evictd.caches

        eventually("everything is applied", applied, 1800, every=0.05)  # each look is work for evictd, too
        seconds_applied = time.monotonic() - begin
        cpu_applied = evictd.cpu_seconds()
        self.wait_until_acknowledged(evictd, end_lsn)
        seconds_acknowledged = time.monotonic() - begin
        metrics = evictd.metrics()
        result = {
            "rows_per_second": rows / seconds_applied,
            "rows_per_second_until_acknowledged": rows / seconds_acknowledged,
            "seconds": seconds_applied,
            "cpu_us_per_row": cpu_applied / rows * 1e6,
            "cpu_us_per_row_until_acknowledged": evictd.cpu_seconds() / rows * 1e6,
            "redis_us_per_row": (sum(server.cpu_seconds() for server in evictd.servers) - redis_before) / rows * 1e6,
            "memory_max_mib": evictd.memory_bytes("VmHWM") / 2**20,
            "keys_in_redis": sum(server.client(evictd.database).dbsize() for server in evictd.servers),
        }
        assert metrics.sum("evictd_gaps_total") == 0, f"a gap was repaired instead of changes applied:\n{evictd.log_tail()}"
        assert evictd.stop() == 0
        evictd.clear()
        return result

    def throughput(self, rows, load, fills):
        """The same load read by pg_recvlogical and by evictd with each kind of fill, values cached and not, `rounds`
        times, in an order that turns."""
        self.prepare(rows)
        kinds = [(f"evictd, {fill}, {'values cached' if are_cached else 'nothing cached'}", fill, are_cached)
                 for fill in fills for are_cached in (False, True)]
        are_cached_by_name = {name: are_cached for name, _, are_cached in kinds}
        readers = {}
        for number in range(self.options.rounds):
            slot = f"yardstick{number}"
            self.postgres.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
            readers["pg_recvlogical", number] = slot
            for name, fill, _ in kinds:
                readers[name, number] = self.new_evictd(fill)
        say(f"  loading {rows} rows")
        load(self.postgres, rows)
        end_lsn = workload.end_of_load(self.postgres)
        names = ["pg_recvlogical", *are_cached_by_name]
        results = {name: [] for name in names}
        for number in range(self.options.rounds):
            for name in names[number % len(names):] + names[:number % len(names)]:
                reader = readers[name, number]
                if name == "pg_recvlogical":
                    seconds, cpu = yardstick.drain(self.postgres, reader, PUBLICATION, end_lsn)
                    result = {"rows_per_second": rows / seconds, "seconds": seconds, "cpu_us_per_row": cpu / rows * 1e6}
                else:
                    result = self.drain_by_evictd(reader, rows, end_lsn, are_cached_by_name[name])
                results[name].append(result)
                say(f"  round {number + 1}: {name}: {result['rows_per_second']:,.0f} rows/s")
        self.drop_slots()
        summary = {name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                   for name, rounds in results.items()}
        for name in names[1:]:
            summary[name]["of_pg_recvlogical"] = summary[name]["rows_per_second"] / summary["pg_recvlogical"]["rows_per_second"]
        unlink = {name: statistics.median(yardstick.unlink(self.redis, 63, rows, are_cached) for _ in range(self.options.rounds))
                  for name, are_cached in (("nothing cached", False), ("values cached", True))} if fills else {}
        return {"rows": rows, "median": summary, "rounds": results, "unlink_redis_us_per_key": unlink}

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
        self.wait_until_acknowledged(evictd, end_lsn)
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

    def rules(self, rows):
        """The same number of changes, of one table and of a thousand with a rule each. Nobody asks for metrics meanwhile:
        those of a thousand tables cost more than the changes."""
        result = {"rows": rows, "cpu_us_per_row": {}, "start_seconds": {}}
        for tables in (1, 10, 100, 1000):
            workload.create_many_tables(self.postgres, tables, rows)
            names = ", ".join(f"many_{number}" for number in range(tables))
            self.postgres.execute(f"drop publication if exists many; create publication many for table {names}")
            daemons = [self.new_evictd(rules=workload.rules_of_many_tables(tables), publication="many")
                       for _ in range(self.options.rounds)]
            workload.many_tables(self.postgres, tables, rows)
            end_lsn = workload.end_of_load(self.postgres)
            measured = []
            for one in daemons:
                one.start(ready=False)
                self.wait_until_acknowledged(one, end_lsn)
                measured.append((one.cpu_seconds() - one.cpu_of_a_start) / rows * 1e6)
                assert one.metrics().sum("evictd_invalidations_total", kind="key") >= rows
                assert one.stop() == 0
                self.redis.client(one.database).flushdb()
            result["cpu_us_per_row"][tables] = statistics.median(measured)
            result["start_seconds"][tables] = statistics.median(one.cpu_of_a_start for one in daemons)
            say(f"  {tables} rules: {result['cpu_us_per_row'][tables]:.2f} us per row")
            self.drop_slots()
        return result

    def caches(self, rows, seconds):
        """What a second cache costs, and what a second one that is frozen does to the first one's latency."""
        second = servers.Redis(f"{self.folder}/second").start()
        self.prepare(max(rows, 100_000))
        daemons = {(number, caches): self.new_evictd(second=second if caches == 2 else None)
                   for number in range(self.options.rounds) for caches in (1, 2)}
        workload.one_transaction(self.postgres, rows)
        end_lsn = workload.end_of_load(self.postgres)
        cpu = {1: [], 2: []}
        for (_, caches), one in daemons.items():
            cpu[caches].append(self.drain_by_evictd(one, rows, end_lsn)["cpu_us_per_row_until_acknowledged"])
        self.drop_slots()
        result = {"rows": rows, "cpu_us_per_row": {caches: statistics.median(all_of_it) for caches, all_of_it in cpu.items()}}
        cases = (("alone", 1, False), ("beside another", 2, False), ("beside a frozen one", 2, True))
        rounds = {name: [] for name, _, _ in cases}
        # In turn, since a p99 is a matter of what else the machine does at the moment.
        for name, caches, is_frozen in cases * self.options.rounds:
            evictd = self.new_evictd(second=second if caches == 2 else None)
            evictd.start()
            if is_frozen:
                second.process.send_signal(signal.SIGSTOP)
            rounds[name].append(latency.measure(self.postgres, self.redis.client(evictd.database), evictd, seconds,
                                                labels={"cache": "first"} if caches == 2 else {}))
            say(f"  {name}: p99 {rounds[name][-1]['client_after_commit']['p99_ms']:.2f} ms")
            second.process.send_signal(signal.SIGCONT)
            assert evictd.stop() == 0
            self.drop_slots()
        for name, measured in rounds.items():
            result[name] = {what: {quantile: statistics.median(one[what][quantile] for one in measured) for quantile in ("p50_ms", "p99_ms")}
                            for what in ("client_after_commit", "histogram")}
        second.stop()
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
        lines += ["", f"{report[case]['rows']:,} rows, {title}: every row a key of its own, median of {len(report[case]['rounds']['pg_recvlogical'])}",
                  f"  {'':32} {'rows/s':>9} {'ratio':>6} {'until acknowledged':>19} {'CPU us/row':>11} {'Redis us/row':>13} {'max MiB':>8}"]
        for name, one in report[case]["median"].items():
            ratio = f"{one['of_pg_recvlogical']:.2f}" if "of_pg_recvlogical" in one else "1"
            acknowledged = f"{one['rows_per_second_until_acknowledged']:,.0f}" if "rows_per_second_until_acknowledged" in one else ""
            memory = f"{one['memory_max_mib']:.0f}" if "memory_max_mib" in one else ""
            redis = f"{one['redis_us_per_row']:.2f}" if "redis_us_per_row" in one else ""
            lines.append(f"  {name:32} {one['rows_per_second']:>9,.0f} {ratio:>6} {acknowledged:>19} {one['cpu_us_per_row']:>11.2f} {redis:>13} {memory:>8}")
        for name, spent in report[case]["unlink_redis_us_per_key"].items():
            lines.append(f"  {'a pipeline of UNLINK, ' + name:32} {'':>9} {'':>6} {'':>19} {'':>11} {spent:>13.2f}")
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
    if "rules" in report:
        one = report["rules"]
        lines += ["", f"{one['rows']:,} rows in one transaction, of as many tables as rules; CPU us/row until acknowledged, without the start",
                  "  " + "   ".join(f"{tables:,} rules {cpu:.2f} (start {one['start_seconds'][tables]:.2f} s)"
                                   for tables, cpu in one["cpu_us_per_row"].items())]
    if "caches" in report:
        one = report["caches"]
        lines += ["", f"a second cache: {one['cpu_us_per_row'][1]:.2f} us of CPU per row with one, {one['cpu_us_per_row'][2]:.2f} with two"]
        lines += [f"  {name + ': COMMIT returned to key gone':54} p50 {one[name]['client_after_commit']['p50_ms']:.2f} ms, p99 {one[name]['client_after_commit']['p99_ms']:.2f} ms"
                  f"; histogram p99 {one[name]['histogram']['p99_ms']:.2f} ms"
                  for name in ("alone", "beside another", "beside a frozen one") if name in one]
    if "cluster" in report:
        lines += ["", *cluster.table(report["cluster"])]
    if "derived" in report:
        lines += ["", *derived.table(report["derived"])]
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
    parser.add_argument("--requests", type=int, default=100_000)
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
        if "rules" in cases:
            say("one to a thousand rules")
            report["rules"] = bench.rules(options.rows // 2 // 100_000 * 100_000 or 100_000)
        if "caches" in cases:
            say("two caches")
            report["caches"] = bench.caches(options.rows // 2, options.seconds)
        if "cluster" in cases:
            say("one server and a cluster")
            report["cluster"] = cluster.measure(bench, options.rows // 5, PUBLICATION, say)
        if "derived" in cases:
            say("keys of a joined table")
            report["derived"] = derived.measure(bench, PUBLICATION, options.seconds)
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
