"""The part of the demo that runs; started by demo.sh, which builds and explains."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until perform() knows better: Ctrl-C ends it without a word

import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests")
os.environ.setdefault("EVICTD_BINARY_DIR", f"{ROOT}/build/release")

from demo_stage import every_second, perform, say, title  # noqa: E402
from harness import daemon, oracle, process, servers, shop  # noqa: E402
from harness.waiting import eventually  # noqa: E402

LATENCY = "evictd_invalidation_latency_seconds"


def milliseconds(seconds):
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


# What rules.yaml does not have, because Kafka without a database cannot: a key of a joined table.
DERIVED = """
  # The page of a product shows the name of its category.
  - table: public.categories
    when_changed: [name]
    via: {products: {table: public.products, match: {category_id: id}}}
    keys: ["product:{products.slug}:page"]
"""
PAGE = ("select json_build_object('name', p.name, 'category', c.name)::text from products p join categories c on c.id = p.category_id "
        "where p.slug = %s")


class ExampleEvictd(daemon.Evictd):
    """evictd with the example files of this folder and one rule more: addresses come from the environment."""

    def __init__(self, folder, postgres_url, redis_url):  # pylint: disable=super-init-not-called
        self.program = daemon.binary()
        self.port = process.free_port()
        self.log = f"{folder}/evictd.log"
        self.config = f"{folder}/evictd.yaml"
        shutil.copy(f"{ROOT}/deploy/evictd.yaml", self.config)
        with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as rules, open(f"{folder}/rules.yaml", "w", encoding="utf-8") as both:
            both.write(rules.read() + DERIVED)
        self.slot = "evictd"
        self.process = None
        os.environ.update(EVICTD_POSTGRES_URL=postgres_url, EVICTD_REDIS_URL=redis_url,
                          EVICTD_LISTEN=f"127.0.0.1:{self.port}")


def fill_page(cache, cursor, key):
    """product:<slug>:page"""
    cursor.execute(PAGE, (key.split(":")[1],))
    cache.set(key, cursor.fetchone()[0])


def show_one(postgres, cache, keys, statement, fill=shop.fill):
    """Readers cache `keys`; a statement runs as it might in psql; the keys go."""
    reader = postgres.connect().cursor()
    for key in keys:
        fill(cache, reader, key)
        value = cache.get(key).decode()
        say(f"  redis> GET {key:<24} {value if len(value) <= 90 else value[:90] + ' ...'}")
    writer = postgres.connect().cursor()
    writer.execute(statement)
    committed = time.monotonic()
    say(f"  psql>  {statement}")
    gone = {}

    def all_gone():
        for key in keys:
            if key not in gone and not cache.exists(key):
                gone[key] = time.monotonic() - committed
        return len(gone) == len(keys)

    eventually("the keys are gone", all_gone, 10, every=0.0001)
    for key in keys:
        say(f"  redis> GET {key:<24} (nil)   gone {milliseconds(gone[key])} after the commit returned")
    say()


def show_load(postgres, redis, evictd, once):
    """A line a second until Ctrl-C, or ten of them."""
    running = shop.Shop(postgres, redis.client, seed=os.getpid(), writers=2, readers=2, writer_pause=0.002,
                        reader_pause=0.0005).start()
    say("(lag: up to a second where a pattern's purge waits for the one before it, rules.yaml: purge_every)")
    say("second   writes/s   reads/s   from cache   deletes/s      lag   commit to delete: p50       p99")
    before, counts = evictd.metrics(), (0, 0, 0)

    def show(second):
        nonlocal before, counts
        now = evictd.metrics()
        writes, reads, hits = running.writes, running.reads, running.hits
        deletes = sum(now.sum(name, outcome="deleted") - before.sum(name, outcome="deleted")
                      for name in ("evictd_invalidations_total", "evictd_settle_deletes_total"))
        share = 100 * (hits - counts[2]) / max(1, reads - counts[1])
        say(f"{second:6}   {writes - counts[0]:8}   {reads - counts[1]:7}   {share:8.0f} %   {deletes:9.0f}   "
            f"{now.sum('evictd_lag_seconds'):4.1f} s   {milliseconds(now.quantile(LATENCY, 0.5, before)):>21}   "
            f"{milliseconds(now.quantile(LATENCY, 0.99, before)):>7}")
        before, counts = now, (writes, reads, hits)

    every_second(once, show)
    return running


def demo(folder, once):
    servers_folder = f"{folder}/servers"
    title("servers")
    postgres = servers.Postgres(f"{servers_folder}/postgres").start()
    shop.create(postgres, ROOT)
    redis = servers.Redis(f"{servers_folder}/redis").start()
    say(f"PostgreSQL  psql {postgres.url()}   (wal_level=logical, fsync on; the tables of deploy/shop.sql)")
    say(f"Redis       redis-cli -p {redis.port}")

    postgres.execute("create index on products (category_id)")
    title("evictd, with deploy/evictd.yaml, deploy/rules.yaml and one rule more:")
    say(DERIVED)
    evictd = ExampleEvictd(folder, postgres.url(), redis.url())
    checked = subprocess.run([evictd.program, "check", "-c", evictd.config], check=False, stdin=subprocess.DEVNULL)
    if checked.returncode == 2:
        raise AssertionError("evictd check refuses the example configuration")
    evictd.start()
    say(f"metrics     http://127.0.0.1:{evictd.port}/metrics")
    say(f"status      http://127.0.0.1:{evictd.port}/status   (for people: http://127.0.0.1:{evictd.port}/)")
    say(f"log         {evictd.log}")

    title("one key, one row")
    cache = redis.client()
    shop.plant_sentinels(cache)
    show_one(postgres, cache, ["product:7"], "update products set price_cents = 650 where id = 7")
    say("A slug changes: what was cached under the old one and under the new one goes.")
    show_one(postgres, cache, ["product:slug:product-8", "product:slug:new-8"],
             "update products set slug = 'new-8' where id = 8")
    say("A product moves: the pages tagged with either category go.")
    show_one(postgres, cache, ["listing:1", "listing:5"], "update products set category_id = 1 where id = 9")

    say("A category gets another name, which stands on pages of its products; their keys are in no row of categories.")
    show_one(postgres, cache, ["product:product-2:page", "product:product-7:page"],
             "update categories set name = 'Tools' where id = 3", fill_page)

    title("a writer, a reader, and every way a row can change" + ("" if once else "; Ctrl-C stops"))
    running = show_load(postgres, redis, evictd, once)

    title("the cache against the database")
    oracle.converge(postgres, evictd, running)
    values = oracle.assert_true_cache(postgres, cache)
    say(f"every one of {values} cached values equals its row; no other key was touched")
    code = evictd.stop()
    if code != 0:
        raise AssertionError(f"evictd ended with exit code {code}, expected 0")


if __name__ == "__main__":
    sys.exit(perform(demo))
