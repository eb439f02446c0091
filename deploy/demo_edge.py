"""The demo of an edge; started by demo.sh --edge: pages of docs/recipes/page_server.py behind a Varnish, evictd behind both."""

import http.client
import json
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until perform() knows better: Ctrl-C ends it without a word

import os
import random
import socket
import sys
import threading
import time

import psycopg2
import psycopg2.extensions

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [f"{ROOT}/tests", f"{ROOT}/docs/recipes"]
os.environ.setdefault("EVICTD_BINARY_DIR", f"{ROOT}/build/release")

import page_server  # noqa: E402
from demo_stage import every_second, perform, say, title  # noqa: E402
from harness import daemon, oracle, process, servers, shop  # noqa: E402
from harness.waiting import eventually  # noqa: E402

PRODUCTS = 20
SECONDS_OF_LOAD = 2  # with --once
LATENCY = "evictd_invalidation_latency_seconds"
RULES = """
defaults: {fill: checked}
rules:
  - table: public.products
    keys: ["product:{id}"]
    surrogate_keys: ["product-{id}"]
"""


class Session(psycopg2.extensions.connection):
    """psycopg 2, which Debian's packages of the demo have, called as psycopg 3, for which the page server is written."""

    def execute(self, query, parameters):
        cursor = self.cursor()
        cursor.execute(query, parameters)
        return cursor


class Browser:
    """One connection to Varnish."""

    def __init__(self, varnish):
        self.connection = http.client.HTTPConnection("127.0.0.1", varnish.port, timeout=20)

    def page(self, number):
        """(hit or miss, the page)"""
        self.connection.request("GET", f"/products/{number}")
        answer = self.connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise AssertionError(f"GET /products/{number}: expected 200, got {answer.status} {body[:200]}")
        # Varnish names its own request, and in a hit also the one that brought the page.
        return "hit" if len(answer.headers["X-Varnish"].split()) == 2 else "miss", body


def start_page_server(postgres, redis):
    port = process.free_port()

    def connect():
        session = psycopg2.connect(postgres.url(), connection_factory=Session)
        session.autocommit = True
        return session

    threading.Thread(target=page_server.serve, args=(redis.client(socket_timeout=1), connect, port), daemon=True).start()

    def answers():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        except OSError:
            return False

    eventually("the page server answers", answers, 20)
    return port


def milliseconds(seconds):
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def show_page(browser, number):
    state, body = browser.page(number)
    say(f"  varnish> GET /products/{number:<3} {state:5} {body}")
    return state


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: expected {wanted}, got {got}")


def show_one(postgres, cache, varnish):
    """A page is cached at both places; its row changes; it goes from both; the next request has the new one."""
    browser = Browser(varnish)
    expect("the first request", show_page(browser, 7), "miss")
    expect("the second request", show_page(browser, 7), "hit")
    say(f"  redis>   GET product:7     {cache.get('product:7').decode()}")
    expect("another page", show_page(browser, 8), "miss")
    statement = "update products set price_cents = 650 where id = 7"
    writer = postgres.connect().cursor()
    writer.execute(statement)
    committed = time.monotonic()
    say(f"  psql>    {statement}")
    eventually("the key is gone from Redis", lambda: not cache.exists("product:7"), 10, every=0.0001)
    say(f"  redis>   GET product:7     (nil)   gone {milliseconds(time.monotonic() - committed)} after the commit returned")
    seen = {}

    def is_made_anew():
        seen["state"], seen["body"] = browser.page(7)
        return seen["state"] == "miss"

    eventually("the page is gone from Varnish", is_made_anew, 10, every=0.0005)
    elapsed = time.monotonic() - committed
    expect("the price on the new page", json.loads(seen["body"])["price_cents"], 650)
    say(f"  varnish> GET /products/7   miss  {seen['body']}   {milliseconds(elapsed)} after the commit returned")
    say("The other page has stayed:")
    expect("the other page", show_page(browser, 8), "hit")
    say("\nevictd purges the page once more when nobody can have made it of the old row any more (a second, and origin_time): Varnish")
    say("compares no versions, and a page may be under way while its row changes.")


class Load:
    """Readers of pages and a writer of rows, in threads, until stop()."""

    def __init__(self, postgres, varnish):
        self.pages = self.hits = self.writes = 0
        self.failure = None
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=(work, argument), daemon=True)
                        for work, argument in ((self.write, postgres), (self.read, varnish), (self.read, varnish))]
        for thread in self.threads:
            thread.start()

    def guard(self, work, argument):
        try:
            work(argument)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def write(self, postgres):
        cursor = postgres.connect().cursor()
        while not self.stopping.wait(0.02):
            cursor.execute("update products set price_cents = price_cents + 1 where id = %s", (random.randint(1, PRODUCTS),))
            self.writes += 1

    def read(self, varnish):
        browser = Browser(varnish)
        while not self.stopping.wait(0.001):
            state, _ = browser.page(random.randint(1, PRODUCTS))
            self.pages += 1
            self.hits += state == "hit"

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        if self.failure is not None:
            raise self.failure


def show_load(postgres, varnish, evictd, once):
    load = Load(postgres, varnish)
    say("second   writes/s   pages/s   from Varnish   purges/s   lag of Redis   of Varnish   commit to purge: p50       p99")
    before, counts = evictd.metrics(), (0, 0, 0)

    def show(second):
        nonlocal before, counts
        now = evictd.metrics()
        writes, pages, hits = load.writes, load.pages, load.hits
        purged = now.sum("evictd_edge_keys_purged_total") - before.sum("evictd_edge_keys_purged_total")
        share = 100 * (hits - counts[2]) / max(1, pages - counts[1])
        lags = [now.sum("evictd_lag_seconds", cache=name) for name in ("main", "edge")]
        quantiles = [milliseconds(now.quantile(LATENCY, q, before, cache="edge")) for q in (0.5, 0.99)]
        say(f"{second:6}   {writes - counts[0]:8}   {pages - counts[1]:7}   {share:10.0f} %   {purged:8.0f}   {lags[0]:10.1f} s   "
            f"{lags[1]:8.1f} s   {quantiles[0]:>20}   {quantiles[1]:>7}")
        before, counts = now, (writes, pages, hits)

    every_second(once, show, SECONDS_OF_LOAD)
    load.stop()


def assert_true_pages(postgres, varnish):
    """Every page that Varnish gives out equals its row; how many of them it had kept."""
    browser = Browser(varnish)
    for number in range(1, PRODUCTS + 1):
        browser.page(number)
    kept = 0
    for number in range(1, PRODUCTS + 1):
        state, body = browser.page(number)
        row = postgres.value("select row_to_json(p)::text from products p where id = %s", (number,))
        expect(f"the page of product {number}", body, row)
        kept += state == "hit"
    return kept


def demo(folder, once):
    title("servers")
    postgres = servers.Postgres(f"{folder}/postgres").start()
    shop.create(postgres, ROOT)
    redis = servers.Redis(f"{folder}/redis").start()
    pages = start_page_server(postgres, redis)
    with open(f"{ROOT}/docs/edge.md", encoding="utf-8") as file:
        vcl = file.read().split("```vcl\n")[1].split("```")[0]
    varnish = servers.Varnish(f"{folder}/varnish", pages, vcl).start()
    say(f"PostgreSQL  psql {postgres.url()}   (the tables of deploy/shop.sql)")
    say(f"Redis       redis-cli -p {redis.port}")
    say(f"pages       curl -i http://127.0.0.1:{pages}/products/7   (docs/recipes/page_server.py: Redis in front of PostgreSQL)")
    say(f"Varnish     curl -i {varnish.url()}products/7   (in front of the pages, with the VCL of docs/edge.md)")

    caches = (f"  main: {{redis: {{url: {redis.url()}}}}}\n"
              f"  edge: {{varnish: {{url: {varnish.url()}}}, after: [main]}}\n")
    title("evictd, with two caches and one rule")
    say("caches:\n" + caches + RULES.strip())
    evictd = daemon.Evictd(folder, postgres.url(), redis.url(), RULES, caches=caches).start()
    say(f"status      http://127.0.0.1:{evictd.port}/")
    say(f"log         {evictd.log}")

    title("one page, one row")
    show_one(postgres, redis.client(), varnish)

    title("readers of pages, and a writer" + ("" if once else "; Ctrl-C stops"))
    show_load(postgres, varnish, evictd, once)

    title("the pages against the database")
    oracle.converge(postgres, evictd)
    kept = assert_true_pages(postgres, varnish)
    say(f"every one of {PRODUCTS} pages equals its row; {kept} of them come from Varnish")
    if kept == 0:
        raise AssertionError("Varnish keeps no page: nothing was shown")
    code = evictd.stop()
    expect("evictd's exit code", code, 0)


if __name__ == "__main__":
    sys.exit(perform(demo))
