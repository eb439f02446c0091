"""Keys of joined tables: how many a second one connection of lookups can name, and what a lookup adds to the time between a
commit and its delete."""

import os
import statistics
import subprocess
import threading
import time

import workload

PARENTS = 1_000_000
ITEMS = 100_000
RATE = 500
PROBES_PER_SECOND = 20
PROBE_ROWS = 1000

RULES = """
rules:
- table: children
  via: {parent: {table: parents, match: {id: parent_id}}}
  keys: ["child:{id}", "page:{parent.slug}"]
"""

LOAD = f"""\\set id random({PROBE_ROWS + 1}, {ITEMS})
update children set version = version + 1 where id = :id;
"""


def create(postgres, publication):
    postgres.execute("drop table if exists children, parents")
    postgres.execute("create table parents (id bigint primary key, slug text not null)")
    postgres.execute("create table children (id bigint primary key, parent_id bigint not null, version integer not null)")
    postgres.execute("alter table children replica identity full; alter table parents replica identity full")
    postgres.execute(f"insert into parents select n, 'slug-' || n from generate_series(1, {PARENTS}) n")
    # Every parent of another child, all over the index.
    postgres.execute(f"insert into children select n, 1 + (n * 7919) % {PARENTS}, 0 from generate_series(1, {ITEMS}) n")
    postgres.execute("analyze parents; analyze children")
    postgres.execute(f"drop publication if exists {publication}; create publication {publication} for table children, parents")


def rate(bench, publication):
    """Derived keys a second, of single-row transactions that wait in the slot."""
    evictd = bench.new_evictd(rules=RULES, publication=publication)
    with bench.postgres.connect().cursor() as cursor:
        cursor.execute("set synchronous_commit = off")  # the load is not what is measured
        cursor.execute(f"do $$ begin for i in 1..{ITEMS} loop update children set version = version + 1 where id = i; commit; end loop; end $$")
    end_lsn = workload.end_of_load(bench.postgres)
    begin = time.monotonic()
    evictd.start(ready=False)
    bench.wait_until_acknowledged(evictd, end_lsn)
    seconds = time.monotonic() - begin
    metrics = evictd.metrics()
    found = metrics.sum("evictd_lookup_rows_total")
    assert metrics.sum("evictd_gaps_total") == 0 and metrics.sum("evictd_lookup_overflows_total") == 0, evictd.log_tail()
    assert found >= ITEMS, f"only {found} rows were found"
    result = {"keys": ITEMS, "keys_per_second": ITEMS / seconds, "cpu_us_per_change": evictd.cpu_seconds() / ITEMS * 1e6}
    assert evictd.stop() == 0
    return result


def latency(bench, publication, seconds):
    """From a commit's return until the row's own key is gone, and until the derived one is; at a steady rate."""
    evictd = bench.new_evictd(rules=RULES, publication=publication)
    evictd.start()
    cache = bench.redis.client(evictd.database)
    script = os.path.join(evictd.folder, "load.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write(LOAD)
    pgbench = subprocess.Popen(
        [os.path.join(bench.postgres.programs, "pgbench"), "-n", "-M", "prepared", "-f", script, "-R", str(RATE), "-c", "2",
         "-T", str(seconds + 2), bench.postgres.url()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)  # connected and at its rate
    gone = {"own": [], "derived": []}

    def probe():
        connection = bench.postgres.connect(autocommit=False)
        end = time.monotonic() + seconds
        number = 0
        with connection.cursor() as cursor:
            while time.monotonic() < end:
                row = 1 + number % PROBE_ROWS
                number += 1
                waiting = {f"child:{row}": "own", f"page:slug-{1 + (row * 7919) % PARENTS}": "derived"}
                for key in waiting:
                    cache.set(key, "cached")
                cursor.execute("update children set version = version + 1 where id = %s", (row,))
                connection.commit()
                returned = time.monotonic()
                while waiting:
                    for key in list(waiting):
                        if not cache.exists(key):
                            gone[waiting.pop(key)].append(time.monotonic() - returned)
                    assert time.monotonic() - returned < 30, f"{list(waiting)} still cached after 30 s"
                time.sleep(1 / PROBES_PER_SECOND)
        connection.close()

    prober = threading.Thread(target=probe)
    prober.start()
    prober.join()
    _, errors = pgbench.communicate()
    assert pgbench.returncode == 0, errors
    assert evictd.stop() == 0
    return {name: {"p50_ms": statistics.median(times) * 1e3, "p99_ms": sorted(times)[int(len(times) * 0.99)] * 1e3, "samples": len(times)}
            for name, times in gone.items()}


def measure(bench, publication, seconds):
    create(bench.postgres, publication)
    result = {"rate": rate(bench, publication), "latency": latency(bench, publication, seconds)}
    bench.drop_slots()
    return result


def table(result):
    lines = [f"keys of a joined table of {PARENTS:,} rows: {result['rate']['keys_per_second']:,.0f} a second from single-row transactions, "
             f"{result['rate']['cpu_us_per_change']:.1f} us of CPU each; at {RATE} transactions a second, after the commit:"]
    for name, one in result["latency"].items():
        lines.append(f"  {name:8} p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms ({one['samples']} samples)")
    return lines
