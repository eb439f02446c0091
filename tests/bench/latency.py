"""How long a key outlives the commit that changed its row, at a steady rate: by evictd's own histogram, and
by a client that knows nothing of evictd and polls the key."""

import os
import statistics
import subprocess
import threading
import time

RATE = 2000
PROBES_PER_SECOND = 100
# The load updates rows above these; the probes have theirs to themselves.
PROBE_ROWS = 1000

LOAD = f"""\\set id random({PROBE_ROWS + 1}, 100000)
update items set version = version + 1 where id = :id;
"""


def _percentiles(seconds):
    ordered = sorted(seconds)
    return {"p50_ms": statistics.median(ordered) * 1e3,
            "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, "samples": len(ordered)}


def probe(postgres, cache, until):
    """Caches a row's key, updates the row, and polls until the key is gone."""
    connection = postgres.connect(autocommit=False)
    after_commit, from_commit, commits = [], [], []
    number = 0
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            row = 1 + number % PROBE_ROWS
            number += 1
            key = f"item:{row}"
            cache.set(key, "cached")
            cursor.execute("update items set version = version + 1 where id = %s", (row,))
            sent = time.monotonic()
            connection.commit()
            returned = time.monotonic()
            while cache.exists(key):
                if time.monotonic() - returned > 30:
                    raise AssertionError(f"{key} is still cached 30 s after its row changed")
            gone = time.monotonic()
            # Gone before the commit returned counts as 0: the poll saw it at its first look.
            after_commit.append(gone - returned)
            from_commit.append(gone - sent)
            commits.append(returned - sent)
            time.sleep(1 / PROBES_PER_SECOND)
    connection.close()
    return after_commit, from_commit, commits


def measure(postgres, cache, evictd, seconds, labels=()):
    """`labels`: of the series to read, with several caches."""
    script = os.path.join(evictd.folder, "load.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write(LOAD)
    results = {}
    labels = dict(labels)

    def run_probe():
        results["probe"] = probe(postgres, cache, time.monotonic() + seconds)

    pgbench = subprocess.Popen(
        [os.path.join(postgres.programs, "pgbench"), "-n", "-M", "prepared", "-f", script, "-R", str(RATE), "-c", "4", "-j", "2",
         "-T", str(seconds + 2), postgres.url()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)  # connected and at its rate
    before = evictd.metrics()
    prober = threading.Thread(target=run_probe)
    prober.start()
    prober.join()
    after = evictd.metrics()
    output, errors = pgbench.communicate()
    assert pgbench.returncode == 0, errors
    rate = next(float(line.split("=")[1].split()[0]) for line in output.splitlines() if line.startswith("tps"))
    after_commit, from_commit, commits = results["probe"]
    name = "evictd_invalidation_latency_seconds"
    return {
        "seconds": seconds, "transactions_per_second": rate,
        "histogram": {"p50_ms": after.quantile(name, 0.5, before, **labels) * 1e3, "p99_ms": after.quantile(name, 0.99, before, **labels) * 1e3,
                      "samples": after.sum(name + "_count", **labels) - before.sum(name + "_count", **labels)},
        "client_after_commit": _percentiles(after_commit), "client_from_commit": _percentiles(from_commit),
        "commit": _percentiles(commits),
    }
