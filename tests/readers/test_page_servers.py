"""The page servers of docs/recipes/, run for real: ETags and 304 by themselves, and behind a Varnish that evictd purges."""

import http.client
import json
import os
import random
import shutil
import threading
import time

import languages
import pytest
from harness import daemon, oracle, process, servers
from harness.waiting import eventually

RULES = """
defaults: {fill: checked}
rules:
  - {table: public.products, keys: ["product:{id}"], surrogate_keys: ["product-{id}"]}
"""
PYTHON = """
import sys, psycopg, redis, page_server
redis_port, url, port, query = sys.argv[1:]
page_server.serve(redis.Redis(port=int(redis_port), socket_timeout=1), lambda: psycopg.connect(url, autocommit=True), int(port),
                  query.replace("PARAMETER", "%s") or page_server.QUERY)
"""
NODE = """
import { Redis } from 'ioredis';
import pg from 'pg';
import { serve } from './page_server.mjs';
const [redisPort, url, port, query] = process.argv.slice(2);
const cache = new Redis({ port: Number(redisPort), maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000 });
cache.on('error', () => {});
cache.once('ready', () => serve(cache, new pg.Pool({ connectionString: url }), Number(port), query.replace('PARAMETER', '$1') || undefined));
"""


def build_python(folder):
    language = languages.Python()
    language.fetch()
    with open(f"{folder}/main.py", "w", encoding="utf-8") as file:
        file.write(PYTHON)
    shutil.copy(f"{languages.ROOT}/docs/recipes/page_server.py", folder)
    return [f"{language.libraries}/venv/bin/python", f"{folder}/main.py"]


def build_node(folder):
    language = languages.Node()
    language.fetch()
    with open(f"{folder}/main.mjs", "w", encoding="utf-8") as file:
        file.write(NODE)
    shutil.copy(f"{languages.ROOT}/docs/recipes/page_server.mjs", folder)
    os.symlink(f"{language.libraries}/node_modules", f"{folder}/node_modules")
    return ["node", f"{folder}/main.mjs"]


BUILDERS = {"python": build_python, "node": build_node}


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def etag(self):
        return self.headers["ETag"]

    @property
    def price(self):
        return json.loads(self.body)["price_cents"]


def ask(port, number, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, f"/products/{number}", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture(scope="module", params=list(BUILDERS))
def command(request, parts_folder):
    folder = f"{parts_folder}/page_server_{request.param}"
    os.makedirs(folder)
    try:
        return BUILDERS[request.param](folder)
    except servers.ServerMissing as reason:
        pytest.skip(f"the {request.param} page server is not run: {reason}")


class PageServer:
    def __init__(self, command, database, redis, query=""):
        self.port = process.free_port()
        self.log = f"{os.path.dirname(command[-1])}/{self.port}.log"
        self.process = process.start([*command, str(redis.port), database.url(), str(self.port), query], log=self.log)
        eventually("the page server answers", self._answers, 60)

    def _answers(self):
        try:
            return ask(self.port, 100_000).status == 404
        except OSError:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                assert self.process.poll() is None, f"the page server ended:\n{log.read()}"
            return False

    def stop(self):
        process.end(self.process)


@pytest.fixture
def make_page_server(command, database, redis_server):
    made = []

    def make(redis=None, query=""):
        made.append(PageServer(command, database, redis or redis_server, query))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def make_edge(parts_folder, database, redis_server, make_page_server):
    """make_edge(soft): a page server, a Varnish before it, and an evictd that purges both."""
    made = []

    def make(soft):
        pages = make_page_server()
        folder = f"{parts_folder}/edge{pages.port}"
        with open(f"{daemon.ROOT}/docs/edge.md", encoding="utf-8") as file:
            vcl = file.read().split("```vcl\n")[1].split("```")[0]
        try:
            varnish = servers.Varnish(f"{folder}/varnish", pages.port, vcl)
        except servers.ServerMissing as missing:
            if os.environ.get("EVICTD_REQUIRE_SERVERS") == "1":
                raise
            pytest.skip(str(missing))
        varnish.start()
        made.append(varnish)
        caches = (f"  main: {{redis: {{url: {redis_server.url()}}}}}\n"
                  f"  edge: {{varnish: {{url: \"{varnish.url()}\", soft: {str(soft).lower()}}}, origin_time: 500ms}}\n")
        one = daemon.Evictd(f"{folder}/evictd", database.url(), None, RULES, slot=f"edge{pages.port}", publication=f"edge{pages.port}",
                            caches=caches)
        made.append(one)
        one.start()
        return pages, varnish, one

    yield make
    for one in reversed(made):
        if isinstance(one, daemon.Evictd):
            one.kill()
            print(one.log_tail())
            database.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s and not active",
                             (one.slot,))
        else:
            one.stop()


def stats(redis_server):
    words = redis_server.client(decode_responses=True).execute_command("FCALL", "evictd_stats", 0)
    return dict(zip(words[::2], words[1::2]))


def set_price(database, product, price):
    database.execute("update products set price_cents = %s where id = %s", (price, product))


def price_of(database, product):
    return database.value("select price_cents from products where id = %s", (product,))


def test_a_client_that_has_the_page_is_told_so(evictd, make_page_server, database, redis_server, product):
    pages = make_page_server()
    first = ask(pages.port, product)
    assert first.status == 200 and first.price == price_of(database, product)
    assert first.etag.startswith('"1-') and first.headers["Surrogate-Key"] == f"product-{product}"
    assert "s-maxage=" in first.headers["Cache-Control"] and "stale-while-revalidate=" in first.headers["Cache-Control"]
    assert ask(pages.port, product).etag == first.etag, "from the cache, the page has the ETag it was filled with"
    before = stats(redis_server)["same"]
    kept = ask(pages.port, product, If_None_Match=first.etag)
    assert (kept.status, kept.body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Surrogate-Key"):
        assert kept.headers[name] == first.headers[name], "a 304 has what the 200 would have had"
    assert kept.headers["Content-Type"] is None and kept.headers["Content-Length"] in (None, "0")
    assert stats(redis_server)["same"] == before + 1, "the value was not fetched for it"
    # As clients write it: several, weak ones, of another release, any at all.
    assert ask(pages.port, product, If_None_Match=f'"0-7:9:8", W/{first.etag}').status == 304
    assert ask(pages.port, product, If_None_Match="*").status == 304
    assert ask(pages.port, product, If_None_Match=first.etag.replace('"1-', '"0-')).status == 200
    assert ask(pages.port, product, If_None_Match="nonsense").status == 200
    head = ask(pages.port, product, method="HEAD")
    assert (head.status, head.body, head.etag) == (200, b"", first.etag)
    # Until the row changes.
    set_price(database, product, 4711)
    eventually("the value is deleted", lambda: not redis_server.client().exists(f"product:{product}"))
    eventually("a new page", lambda: ask(pages.port, product, If_None_Match=first.etag).status == 200)
    oracle.converge(database, evictd)
    second = ask(pages.port, product, If_None_Match=first.etag)
    assert second.status == 200 and second.price == 4711 and second.etag not in (None, first.etag)


def test_a_page_that_is_not_there_and_one_that_nobody_vouches_for_are_not_kept(evictd, make_page_server, database, parts_folder, product):
    own = servers.Redis(f"{parts_folder}/redis-pages-{product}").start()
    own.client().execute_command("FUNCTION", "LOAD", evictd.command("lua").stdout)
    pages = make_page_server(redis=own)
    missing = ask(pages.port, 100_000 + product)
    assert (missing.status, missing.headers["Cache-Control"]) == (404, "no-store")
    # Somebody else holds the lease, and does not come back.
    own.client().execute_command("FCALL", "evictd_get", 2, f"product:{product}", "evictd:{product:%d}" % product, "LEASE", 60000)
    busy = ask(pages.port, product)
    assert (busy.status, busy.headers["Cache-Control"], busy.etag) == (200, "no-store", None)
    own.client().delete("evictd:{product:%d}" % product)
    # Filled by a lease, a value has no version, and its page no ETag.
    lease = own.client().execute_command("FCALL", "evictd_get", 2, f"product:{product}", "evictd:{product:%d}" % product, "LEASE", 60000)[2]
    own.client().execute_command("FCALL", "evictd_fill", 2, f"product:{product}", "evictd:{product:%d}" % product,
                                 b"lease:" + lease, 60000, "{}")
    for headers in ({}, {"If_None_Match": '"1--"'}):
        leased = ask(pages.port, product, **headers)
        assert (leased.status, leased.body, leased.etag) == (200, b"{}", None)
    own.stop()
    without = ask(pages.port, product)
    assert without.status == 200 and without.price == price_of(database, product)
    assert (without.headers["Cache-Control"], without.etag) == ("no-store", None)


def test_a_row_version_that_is_a_time_is_told_as_last_modified(evictd, make_page_server, redis_server, product):
    query = ("select row_to_json(p)::text as row, 'v:2024-02-03T04:05:06.789012Z' as token from products p where id = "
             "PARAMETER")
    pages = make_page_server(query=query)
    first = ask(pages.port, product)
    assert first.headers["Last-Modified"] == "Sat, 03 Feb 2024 04:05:06 GMT"
    assert first.etag == '"1-v2024-02-03T04:05:06.789012Z"'
    again = ask(pages.port, product, If_None_Match=first.etag)
    assert again.status == 304 and again.headers["Last-Modified"] == first.headers["Last-Modified"]


def test_varnish_keeps_a_page_until_its_row_changes(make_edge, database, redis_server, product):
    pages, varnish, evictd = make_edge(soft=False)
    first = ask(varnish.port, product)
    asked = stats(redis_server)
    second = ask(varnish.port, product)
    assert second.body == first.body and stats(redis_server) == asked, "the page server was not asked again"
    assert second.headers["xkey"] is None and second.headers["Surrogate-Key"] is None, "names of ours are no business of browsers"
    assert ask(varnish.port, product, If_None_Match=first.etag).status == 304
    set_price(database, product, 815)
    eventually("the new page", lambda: ask(varnish.port, product).price == 815)
    assert ask(varnish.port, product, If_None_Match=first.etag).status == 200
    oracle.wait_until_acknowledged(database, evictd.slot)
    assert ask(varnish.port, product).price == 815
    # A Varnish that was killed has lost its pages, and is stale in nothing.
    varnish.stop()
    set_price(database, product, 816)
    varnish.start()
    evictd.wait_until_ready()
    assert ask(varnish.port, product).price == 816


def test_a_soft_purge_serves_the_old_page_once_and_revalidates_it(make_edge, database, redis_server, product):
    pages, varnish, evictd = make_edge(soft=True)
    first = ask(varnish.port, product)
    # Purged without a change of its row: Varnish asks with the ETag it has, and is told that its page is good.
    purge = http.client.HTTPConnection("127.0.0.1", varnish.port, timeout=20)
    purge.request("PURGE", "/", headers={"xkey": f"product-{product}", "X-Soft-Purge": "1"})
    assert Answer(purge.getresponse()).headers["X-Purged"] == "1"
    purge.close()
    before = stats(redis_server)
    assert ask(varnish.port, product).body == first.body
    eventually("it was revalidated", lambda: stats(redis_server)["same"] == before["same"] + 1)
    assert ask(varnish.port, product).body == first.body
    assert stats(redis_server)["fresh"] == before["fresh"], "the body was not sent again"
    # Purged by a change.
    set_price(database, product, 99)
    eventually("the new page", lambda: ask(varnish.port, product).price == 99)
    oracle.wait_until_acknowledged(database, evictd.slot)
    eventually("and no other", lambda: ask(varnish.port, product).price == 99)


def test_no_page_is_older_than_its_row_after_a_storm(make_edge, database, redis_server, seed, product):
    pages, varnish, evictd = make_edge(soft=False)
    stop, wrong, asked = threading.Event(), [], [0]
    products = range(product, product + 3)

    def read(number):
        choose, etags = random.Random(f"{seed}/{number}"), {}
        while not stop.is_set():
            one = choose.choice(products)
            known = {"If_None_Match": etags[one]} if one in etags and choose.random() < 0.5 else {}
            answer = ask(varnish.port, one, **known)
            asked[0] += 1
            if answer.status not in (200, 304):
                wrong.append((one, answer.status))
            if answer.status == 200 and answer.etag:
                etags[one] = answer.etag

    def write():
        choose = random.Random(seed)
        while not stop.is_set():
            set_price(database, choose.choice(products), choose.randrange(10**6))
            stop.wait(0.02)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    eventually("pages are asked for", lambda: asked[0] > 600 or wrong, 60)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
    oracle.wait_until_acknowledged(database, evictd.slot)
    for one in products:
        answer = ask(varnish.port, one)
        assert answer.price == price_of(database, one), f"the page of product {one} is older than its row"
