"""What an edge costs the caches before it: commit to delete in Redis at 2,000 transactions a second without an edge, with a Varnish
behind it, and with one that is dead; and how long 10,000 surrogate keys take to be purged. Started by itself or by run.sh
(`--case edge`)."""

import argparse
import http.server
import json
import os
import shutil
import sys
import threading
import time
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import latency  # noqa: E402
import workload  # noqa: E402
from harness import daemon, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402

RULES = "- {table: public.items, keys: ['item:{id}'], surrogate_keys: ['item-{id}'], settle: 500ms}\n"
READERS = 4


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"x" * 500
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("xkey", "item-" + self.path[1:])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def documented_vcl():
    with open(f"{daemon.ROOT}/docs/edge.md", encoding="utf-8") as file:
        return file.read().split("```vcl\n")[1].split("```")[0]


def fetch_all(varnish, numbers):
    """Pages that are cached afterwards."""
    def fetch(share):
        for number in share:
            with urllib.request.urlopen(f"{varnish.url()}{number}", timeout=20) as answer:
                answer.read()

    threads = [threading.Thread(target=fetch, args=(numbers[first::READERS],)) for first in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def how_many_are_cached(varnish, numbers):
    count = 0
    for number in numbers:
        with urllib.request.urlopen(f"{varnish.url()}{number}", timeout=20) as answer:
            answer.read()
            count += int(answer.headers.get("Age", "0")) > 0 or len(answer.headers.get("X-Varnish", "").split()) == 2
    return count


def purge_many(postgres, varnish, evictd, keys):
    """One transaction changes `keys` rows whose pages are cached."""
    numbers = list(range(50_001, 50_001 + keys))
    fetch_all(varnish, numbers)
    sample = numbers[::max(1, keys // 500)]
    assert how_many_are_cached(varnish, sample) == len(sample)
    before = evictd.metrics().sum("evictd_invalidations_total", cache="edge")
    begin = time.monotonic()
    postgres.execute(f"update items set version = version + 1 where id between {numbers[0]} and {numbers[-1]}")
    committed = time.monotonic()
    eventually("all are purged", lambda: evictd.metrics().sum("evictd_invalidations_total", cache="edge") - before >= keys, 120, every=0.02)
    seconds = time.monotonic() - committed
    return {"keys": keys, "seconds": seconds, "update_seconds": committed - begin, "still_cached_of_a_sample": how_many_are_cached(varnish, sample),
            "sample": len(sample)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="as run.sh passes it on")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = process.temporary_folder("evictd-edge-")
    results = {}
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    origin.daemon_threads = True
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    try:
        postgres = servers.Postgres(f"{folder}/postgres", {"shared_buffers": "512MB", "max_wal_size": "16GB", "autovacuum": "off"}).start()
        postgres.execute("create database shop", database="postgres")
        workload.create_table(postgres, 100_000)
        redis = servers.Redis(f"{folder}/redis").start()
        varnish = servers.Varnish(f"{folder}/varnish", origin.server_address[1], documented_vcl()).start()
        edge = f"  edge: {{varnish: {{url: {varnish.url()}}}, origin_time: 500ms, park_after: never}}\n"
        for name, more in (("no edge", ""), ("a Varnish", edge), ("a dead Varnish", edge)):
            rules = RULES if more else RULES.replace("surrogate_keys: ['item-{id}'], ", "")
            evictd = daemon.Evictd(f"{folder}/{name.replace(' ', '')}", postgres.url(), redis.url(), rules,
                                   caches=f"  main: {{redis: {{url: {redis.url()}}}, park_after: never}}\n{more}").start()
            if name == "a Varnish":
                results["purge"] = purge_many(postgres, varnish, evictd, options.keys)
                print(json.dumps(results["purge"]), file=sys.stderr, flush=True)
            if name == "a dead Varnish":
                varnish.stop()
            results[name] = latency.measure(postgres, redis.client(), evictd, options.seconds, {"cache": "main"})
            print(f"{name}: {json.dumps(results[name]['histogram'])}", file=sys.stderr, flush=True)
            evictd.kill()
            postgres.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active")
            eventually("the slot is free", lambda: not postgres.value("select bool_or(active) from pg_replication_slots"))
            postgres.execute("select pg_drop_replication_slot('evictd')")
            redis.client().flushdb()
    finally:
        process.end_all()
        origin.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    purge = results["purge"]
    print(f"{purge['keys']} surrogate keys of one transaction purged from Varnish {purge['seconds']:.2f} s after its commit; "
          f"{purge['still_cached_of_a_sample']} of {purge['sample']} pages still cached")
    print("| behind Redis | commit to delete in Redis, p50 ms | p99 ms |\n|---|---|---|")
    for name in ("no edge", "a Varnish", "a dead Varnish"):
        print(f"| {name} | {results[name]['histogram']['p50_ms']:.2f} | {results[name]['histogram']['p99_ms']:.2f} |")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
