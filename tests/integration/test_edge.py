"""PostgreSQL, evictd, Redis, and a real Varnish in front of a small application: no page older than its row."""

import http.server
import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request

import psycopg2
import pytest

from harness import daemon, oracle, servers
from harness.waiting import eventually, stays

PRODUCTS = 8
SETTLE = 0.5
ORIGIN_TIME = 0.5
RULES = """
defaults: {settle: 500ms}
rules:
  - table: public.products
    keys: ["page:{id}"]
    surrogate_keys: ["product-{id}"]
"""


class Shop:
    """An application: a page for each product, made from a plain cache-aside read of Redis; /<id>."""

    def __init__(self, postgres, redis):
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                number = int(self.path[1:])
                body = shop.render(number).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "max-age=3600")
                self.send_header("xkey", f"product-{number} site")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.postgres = postgres
        self.cache = redis.client()
        self.local = threading.local()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server.server_address[1]

    def row(self, number):
        if not hasattr(self.local, "connection"):
            self.local.connection = self.postgres.connect()
        with self.local.connection.cursor() as cursor:
            cursor.execute("select price_cents from products where id = %s", (number,))
            return str(cursor.fetchone()[0])

    def render(self, number):
        value = self.cache.get(f"page:{number}")
        if value is not None:
            return value.decode()
        begin = time.monotonic()
        value = self.row(number)
        if time.monotonic() - begin < SETTLE / 2:  # a reader slower than the settle is promised nothing
            self.cache.set(f"page:{number}", value)
        return value

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def shop(postgres, redis):
    made = Shop(postgres, redis)
    yield made
    made.close()


def documented_vcl():
    with open(f"{daemon.ROOT}/docs/edge.md", encoding="utf-8") as file:
        return file.read().split("```vcl\n")[1].split("```")[0]


@pytest.fixture
def varnish(folder, shop):
    try:
        one = servers.Varnish(f"{folder}/varnish", shop.port, documented_vcl())
    except servers.ServerMissing as missing:
        if os.environ.get("EVICTD_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(missing))
    one.start()
    yield one
    one.stop()


@pytest.fixture
def make_edge(make_evictd, redis):
    """make_edge(edge): evictd with a Redis and the edge behind it."""

    def make(edge, rules=RULES):
        settings = ", ".join(f"{name}: {value}" for name, value in edge.items())
        return make_evictd(rules=rules, caches=(
            f"  main: {{redis: {{url: {redis.url()}}}, park_after: never}}\n"
            f"  edge: {{{settings}, origin_time: {int(ORIGIN_TIME * 1000)}ms, park_after: never}}\n"))

    return make


def page(varnish, number):
    with urllib.request.urlopen(f"{varnish.url()}{number}", timeout=20) as answer:
        return answer.read().decode(), int(answer.headers.get("Age", "0"))


class Load:
    """Readers of pages and writers of rows, until the end of the block."""

    def __init__(self, postgres, varnish, seed):
        self.stopping = threading.Event()
        self.pages = 0
        self.failed = 0
        self.wrong = []
        self.threads = [threading.Thread(target=self.read, args=(varnish, f"{seed}/{i}")) for i in range(4)]
        self.threads.append(threading.Thread(target=self.write, args=(postgres, seed)))

    def read(self, varnish, seed):
        choose = random.Random(seed)
        while not self.stopping.is_set():
            try:
                page(varnish, choose.randint(1, PRODUCTS))
                self.pages += 1
            except (OSError, urllib.error.URLError, http.client.HTTPException):
                self.failed += 1
                self.stopping.wait(0.05)

    def write(self, postgres, seed):
        choose = random.Random(seed)
        connection = postgres.connect()
        while not self.stopping.is_set():
            with connection.cursor() as cursor:
                cursor.execute("update products set price_cents = price_cents + 1 where id = %s", (choose.randint(1, PRODUCTS),))
            self.stopping.wait(0.01)
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def settle_down(postgres, evictd):
    """Everything that was written is finished in every cache: first and second purges."""
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert evictd.metrics().get("evictd_lag_seconds", cache="edge") == 0
    assert evictd.metrics().get("evictd_lag_seconds", cache="main") == 0


def assert_true_pages(shop, varnish, postgres):
    kept = 0
    for number in range(1, PRODUCTS + 1):
        row = str(postgres.value("select price_cents from products where id = %s", (number,)))
        body, age = page(varnish, number)
        assert body == row, f"the page of product {number} (aged {age} s) says {body}, its row {row}"
        kept += 1
    assert kept == PRODUCTS


def at_least(what, count, load):
    eventually(what, lambda: load.pages >= count, 60)


def test_no_page_is_older_than_its_row(postgres, redis, shop, varnish, make_edge, seed):
    evictd = make_edge({"varnish": f"{{url: \"{varnish.url()}\"}}"}).start()
    with Load(postgres, varnish, seed) as load:
        at_least("pages are read", 500, load)
    settle_down(postgres, evictd)
    assert_true_pages(shop, varnish, postgres)
    # And they are kept: what was just read comes from Varnish, until its row changes.
    before = shop.cache.get("page:1")
    shop.cache.set("page:1", "not asked for")
    assert page(varnish, 1)[0] == before.decode()
    shop.cache.set("page:1", before)
    postgres.execute("update products set price_cents = 123456 where id = 1")
    eventually("the page shows the new price", lambda: page(varnish, 1)[0] == "123456", 30)
    metrics = evictd.metrics()
    assert metrics.get("evictd_edge_keys_purged_total", cache="edge") > 10
    assert metrics.get("evictd_edge_requests_total", cache="edge", outcome="failed") == 0
    assert metrics.sum("evictd_invalidations_total", cache="edge", kind="surrogate_key", outcome="deleted") > 10
    assert metrics.sum("evictd_invalidations_total", cache="edge", kind="key") == 0
    assert metrics.sum("evictd_invalidations_total", cache="main", kind="surrogate_key") == 0
    # Its record stands beside that of the Redis it stands behind.
    assert redis.client().exists("evictd:record:evictd") and redis.client().exists("evictd:record@edge:evictd")


def test_evictd_may_be_killed_under_load(postgres, shop, varnish, make_edge, seed):
    evictd = make_edge({"varnish": f"{{url: \"{varnish.url()}\"}}"}).start()
    with Load(postgres, varnish, seed) as load:
        for _ in range(3):
            at_least("pages are read", load.pages + 100, load)
            evictd.kill()
            evictd.start()
    settle_down(postgres, evictd)
    assert_true_pages(shop, varnish, postgres)


def test_a_varnish_that_dies_or_hangs_holds_nothing_else_up(postgres, redis, shop, varnish, make_edge, seed):
    evictd = make_edge({"varnish": f"{{url: \"{varnish.url()}\", timeout: 500ms}}"}).start()
    cache = redis.client()

    def assert_redis_is_served():
        number = random.randint(10**6, 10**7)
        cache.set("page:1", "old")
        postgres.execute("update products set price_cents = %s where id = 1", (number,))
        eventually("Redis is served", lambda: cache.get("page:1") != b"old", 10)
        assert evictd.metrics().get("evictd_redis_connected", cache="main") == 1

    page(varnish, 1)
    varnish.stop()
    assert_redis_is_served()
    eventually("readiness names the edge", lambda: "cache 'edge': Varnish" in evictd.http("/readyz")[1], 30)
    assert evictd.metrics().get("evictd_lag_seconds", cache="edge") > 0
    assert_redis_is_served()
    varnish.start()
    evictd.wait_until_ready()
    settle_down(postgres, evictd)
    assert_true_pages(shop, varnish, postgres)

    # One that hangs keeps its pages, and they are stale until it answers again.
    child = varnish.child()
    os.kill(child, signal.SIGSTOP)
    try:
        assert_redis_is_served()
        eventually("readiness names the edge", lambda: "cache 'edge': Varnish" in evictd.http("/readyz")[1], 30)
    finally:
        os.kill(child, signal.SIGCONT)
    evictd.wait_until_ready()
    settle_down(postgres, evictd)
    assert_true_pages(shop, varnish, postgres)
    assert evictd.metrics().sum("evictd_gaps_total") == 0


class FakeFastly:
    """Its API as documented: path, method, credential, scope, batch limit and answer are enforced."""

    def __init__(self, token):
        fake = self
        self.purged = []
        self.problems = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.headers.get("Fastly-Key") != token:
                    return self.answer(401, {"msg": "Provided credentials are missing or invalid"})
                if self.path != "/tokens/self":
                    return self.answer(404, {"msg": "Record not found"})
                return self.answer(200, {"id": "x", "scope": "purge_select purge_all"})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.headers.get("Fastly-Key") != token:
                    return self.answer(401, {"msg": "Provided credentials are missing or invalid"})
                if self.path == "/service/x1/purge_all":
                    fake.purged.append("*")
                    return self.answer(200, {"status": "ok"})
                if self.path != "/service/x1/purge":
                    fake.problems.append(self.path)
                    return self.answer(404, {"msg": "Record not found"})
                keys = json.loads(body)["surrogate_keys"]
                if not 1 <= len(keys) <= 256:
                    fake.problems.append(f"{len(keys)} keys")
                    return self.answer(400, {"msg": "too many keys"})
                fake.purged.extend(keys)
                return self.answer(200, {key: f"108-{i}" for i, key in enumerate(keys)})

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fastly():
    fake = FakeFastly("right-SECRET")
    yield fake
    fake.close()


def fastly_settings(fastly, token):
    return {"fastly": f"{{service: x1, token: {token}, url: \"{fastly.url()}\", soft: true}}"}


def test_a_wrong_token_is_named_and_holds_nothing_else_up(postgres, redis, make_edge, fastly):
    evictd = make_edge(fastly_settings(fastly, "wrong-SECRET")).start(ready=False)
    eventually("readiness names it",
               lambda: "cache 'edge': Fastly service x1" in evictd.http("/readyz")[1] and "answered 401" in evictd.http("/readyz")[1], 30)
    eventually("it streams", lambda: evictd.metrics().get("evictd_source_connected") == 1, 30)
    cache = redis.client()
    for round_number in range(3):
        cache.set("page:1", "old")
        postgres.execute("update products set price_cents = %s where id = 1", (777 + round_number,))
        eventually("Redis is served", lambda: cache.get("page:1") is None, 10)
    assert fastly.purged == []
    stays("not ready", lambda: evictd.http("/readyz")[0] == 503, 0.5)
    checked = evictd.command("check")
    assert "HT002" in checked.stdout and checked.returncode == 2, checked.stdout
    everything = (evictd.log_text() + evictd.metrics().text + json.dumps(evictd.status()) + evictd.http("/")[1]
                  + evictd.http("/readyz")[1] + checked.stdout + checked.stderr)
    assert "SECRET" not in everything
    # With the right one, what was owed since is purged.
    evictd.stop()
    with open(evictd.config, encoding="utf-8") as file:
        text = file.read()
    with open(evictd.config, "w", encoding="utf-8") as file:
        file.write(text.replace("wrong-SECRET", "right-SECRET"))
    evictd.start()
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert "product-1" in fastly.purged
    checked = evictd.command("check")
    assert "HT0" not in checked.stdout, checked.stdout


def test_many_keys_in_batches_and_a_truncate_as_on_gap_says(postgres, make_edge, fastly):
    evictd = make_edge(fastly_settings(fastly, "right-SECRET")).start()
    postgres.execute("create table noise (id int primary key)")
    evictd.write_rules(RULES + "  - {table: public.noise, surrogate_keys: ['noise-{id}', 'noise']}\n")
    evictd.signal(signal.SIGHUP)
    eventually("the table is followed", lambda: "'public.noise' to publication" in evictd.log_text())
    evictd.wait_until_ready()
    postgres.execute("insert into noise select generate_series(1, 3000)")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert {f"noise-{i}" for i in range(1, 3001)} | {"noise"} <= set(fastly.purged)
    del fastly.purged[:]
    postgres.execute("truncate noise")
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert set(fastly.purged) == {"noise", "*"}
    assert fastly.problems == []
