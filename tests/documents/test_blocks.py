"""What README.md and docs/ tell people to type, typed. Every block is run by a test, here or elsewhere, or says below why not; YAML is
held against the parser by test_schemas.py."""

import http.server
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import psycopg2
import psycopg2.extensions
import pytest
from blocks import block, blocks_of, documents, text_of

from harness import daemon, oracle, process, servers, shop
from harness.daemon import ROOT, Evictd, binary
from harness.waiting import eventually

HERE = "tests/documents/test_blocks.py"
# (document, how the block begins): the file that runs it, or why nobody can.
RUN_BY = {
    ("README.md", "deploy/demo.sh"): "tests/integration/test_demo.py",
    ("README.md", "deploy/packages.sh install build"): "the build that is tested was made so",
    ("README.md", "evictd init"): HERE,
    ("CONTRIBUTING.md", "tests/run.sh"): "these are the tests",
    ("docs/audit.md", "$ evictd audit"): HERE,
    ("docs/audit.md", "select k.id"): HERE,
    ("docs/edge.md", "vcl 4.1;"): "tests/integration/test_edge.py",
    ("docs/edge.md", 'if (req.method == "BAN")'): HERE,
    ("docs/install.md", "deploy/packages.sh install build"): "tests/packaging/test_package.py",
    ("docs/install.md", "sudoedit"): "tests/packaging/test_scratch_root.py",
    ("docs/install.md", "# yaml-language-server"): HERE,
    ("docs/postgres.md", "create role"): "tests/documents/test_postgres_document.py",
    ("docs/readers.md", "reader   SELECT"): "a picture",
    ("docs/readers.md", "value = cache.get"): HERE,
    ("docs/readers.md", "value, token = database.execute"): HERE,
    ("docs/readers.md", "FCALL evictd_fill 2+n"): "a call's form; tests/unit/sinks/redis has its table",
    ("docs/readers.md", "FCALL evictd_get 2+n"): "a call's form; tests/unit/sinks/redis has its table",
    ("docs/readers.md", "FCALL evictd_invalidate 2"): "a call's form; tests/unit/sinks/redis has its table",
    ("docs/readers.md", "FCALL evictd_join 2"): "a call's form; tests/unit/sinks/redis has its table",
    ("docs/readers.md", "ACL SETUSER"): "tests/readers/test_documents.py",
    ("docs/readers.md", "FCALL evictd_fill 3 product:7"): HERE,
    ("docs/readers.md", "FCALL evictd_get  2 order:17"): HERE,
    ("docs/readers.md", '@cache.cached("order:{order_id}")'): "tests/readers/drivers/python_package/cases.py",
    ("docs/readers.md", "value, token = load(database, key)"): HERE,
    ("docs/readers.md", "state, value, lease, version"): HERE,
    ("docs/readers.md", "number = cache.get"): HERE,
    ("docs/readers.md", '{"seq":17'): "messages; tests/readers has the subscriber that reads them",
    ("docs/redis.md", "ACL SETUSER"): "tests/readers/test_documents.py",
    ("docs/refresh.md", "select id, row_to_json(p)::text, array"): HERE,
    ("docs/refresh.md", "for stream, entries"): HERE,
    ("docs/refresh.md", "$ evictd warm"): HERE,
    ("docs/rules.md", "ok    a slug is renamed"): HERE,
    ("docs/sizing.md", "create temporary table wal_before"): HERE,
    ("docs/tutorial.md", ""): "tests/documents/test_tutorial.py",
}


def runner(one):
    found = [where for (document, beginning), where in RUN_BY.items() if one.document == document and one.text.startswith(beginning)]
    return found[0] if found else None


def test_every_block_is_run_or_says_why_not():
    all_blocks = [one for document in documents() for one in blocks_of(document) if one.kind != "yaml"]
    assert len(all_blocks) > 40
    assert [one.name for one in all_blocks if runner(one) is None] == []
    for (document, beginning), where in RUN_BY.items():
        assert any(one.document == document and one.text.startswith(beginning) for one in all_blocks), f"{document} has no block {beginning!r}"
        if where.startswith("tests/") and " " not in where:
            assert os.path.exists(f"{ROOT}/{where}")


def test_what_a_sentence_tells_to_type_is_a_command_that_there_is():
    """`evictd <command> --option ...` inside a sentence: names and options are those of --help."""
    usages = {}

    def usage(command):
        if command not in usages:
            done = subprocess.run([binary(), *command.split(), "--help"], capture_output=True, text=True, check=False)
            usages[command] = done.stdout if done.returncode == 0 else None
        return usages[command]

    seen = 0
    for document in documents():
        for typed in re.findall(r"`(?:sudo )?(evictd(?: [^`]+)?)`", re.sub(r"^```.*?^```$", "", text_of(document), flags=re.S | re.M)):
            words = typed.split()
            if len(words) < 2 or not re.fullmatch(r"[a-z]+", words[1]) or words[1] == "lookups":  # the name of a connection
                continue
            command = "rules test" if words[1] == "rules" else words[1]
            assert usage(command), f"{document}: `{typed}`: there is no command '{command}'"
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", typed.replace("--help", "")):
                assert re.search(rf"{option}\b", usage(command)), f"{document}: `{typed}`: '{command}' has no option {option}"
            seen += 1
    assert seen > 30


class Session(psycopg2.extensions.connection):
    """Called as the documents do, which are written for psycopg 3."""

    def execute(self, query, parameters=()):
        cursor = self.cursor()
        cursor.execute(query, parameters)
        return cursor


@pytest.fixture(scope="module", name="postgres")
def postgres_with_the_shop():
    server = servers.Postgres(process.temporary_folder("evictd-blocks-pg-")).start()
    shop.create(server, ROOT)
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module", name="redis")
def redis_server():
    server = servers.Redis(process.temporary_folder("evictd-blocks-redis-")).start()
    yield server
    server.stop()


@pytest.fixture(name="cache")
def empty_cache(redis):
    redis.client().flushall()
    return redis.client()


@pytest.fixture(name="database")
def connection_of_a_reader(postgres):
    connection = psycopg2.connect(postgres.url(), connection_factory=Session)
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.fixture(name="make")
def make_evictd(postgres, redis):
    made = []

    def make(rules, **more):
        number = len(made) + 1
        made.append(Evictd(process.temporary_folder("evictd-blocks-"), postgres.url(), redis.url(), rules, slot=f"blocks{number}",
                           publication=f"blocks{number}", **more))
        return made[-1]

    yield make
    for one in made:
        if one.is_running():
            one.stop()
        if one.process is not None:
            one.command("drop", "--yes")


def test_the_commands_of_the_readme_do_what_stands_beside_them(postgres, redis, cache):
    folder = process.temporary_folder("evictd-readme-")
    os.makedirs(f"{folder}/init")
    port = process.free_port()
    config = block("README.md", "postgres:\n").replace("postgresql://evictd@localhost/shop", postgres.url()).replace(
        "redis://localhost:6379/0", redis.url())
    with open(f"{folder}/evictd.yaml", "w", encoding="utf-8") as file:
        file.write(config + f"http: {{listen: '127.0.0.1:{port}'}}\n")
    lines = {line.split()[1]: line.split("#")[0] for line in block("README.md", "evictd init").splitlines()}
    assert list(lines) == ["init", "check", "explain", "audit", "warm", "watch", "run"]
    environment = dict(os.environ, PATH=f"{os.path.dirname(binary())}:{os.environ['PATH']}")

    def typed(command, where="."):
        return subprocess.run(["bash", "-c", lines[command]], cwd=f"{folder}/{where}", env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False, timeout=60)

    def left_running(command):
        words = lines[command].split()
        return process.start([binary(), *words[1:]], log=f"{folder}/{command}.log", cwd=folder)

    def said(command):
        with open(f"{folder}/{command}.log", encoding="utf-8") as log:
            return log.read()

    lines["init"] = lines["init"].replace("--postgres URL", f"--postgres {postgres.url()}").replace("--redis URL", f"--redis {redis.url()}")
    done = typed("init", "init")
    assert done.returncode == 0, done.stderr
    proposed = subprocess.run([binary(), "check", "-c", f"{folder}/init/evictd.yaml"], capture_output=True, text=True, check=False)
    assert proposed.returncode == 0, proposed.stdout
    done = typed("check")
    assert done.returncode == 0, done.stdout
    done = typed("explain")
    assert done.returncode == 0 and re.findall(r"key +(\S+)", done.stdout) == ["product:1", "product:slug:b", "product:slug:a"], done.stdout
    # Plain rules without a query say nothing of what values should be, and have nothing to fill them with: it is said.
    lines["warm"] = lines["warm"].replace("NAME", "public.products")
    for command, sentence in (("audit", "give it an 'audit' with a query"), ("warm", "'refresh'")):
        done = typed(command)
        assert done.returncode == 2 and sentence in done.stderr, (command, done.stdout, done.stderr)

    postgres.execute("create publication evictd for table products")
    watching = left_running("watch")
    running = left_running("run")
    try:
        eventually("it is ready", lambda: subprocess.run(["curl", "-sf", f"127.0.0.1:{port}/readyz"], capture_output=True, check=False).returncode == 0, 30)
        eventually("watch has its slot", lambda: postgres.value("select count(*) from pg_replication_slots where temporary") == 1, 30)
        cache.set("product:slug:product-7", "old")
        postgres.execute("update products set slug = 'seven' where id = 7")
        eventually("the old slug's key is gone", lambda: not cache.exists("product:slug:product-7"), 30)
        eventually("watch told it", lambda: "product:slug:product-7" in said("watch"), 30)
    finally:
        process.end(watching, signal.SIGINT)
        assert process.end(running) == 0, said("run")
        subprocess.run([binary(), "drop", "--yes", "-c", f"{folder}/evictd.yaml"], capture_output=True, check=False)


def test_the_readers_of_the_document_read(make, database, cache):
    """Each block of Python in docs/readers.md, against a rule of its kind."""

    def run(beginning, **names):
        given = {"cache": cache, "database": database, **names}
        exec(block("docs/readers.md", beginning), given)  # pylint: disable=exec-used
        return given

    def load_price(database, key):
        return database.execute("select price_cents::text from products where id = %s", (key.split(":")[1],)).fetchone()[0]

    evictd = make("- {table: public.products, keys: ['product:{id}'], fill: checked, bump: ['ns:catalog']}\n").start()
    eventually("the functions are there", lambda: cache.fcall("evictd_version", 0), 20)
    assert run("value = cache.get", key="plain:3", load=load_price)["value"] == "300"
    assert cache.get("plain:3") == b"300" and 0 < cache.ttl("plain:3") <= 600
    value = run("value, token = database.execute")["value"]
    assert cache.get("product:7").decode() == value
    database.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("the value is gone", lambda: not cache.exists("product:7"), 20)
    eventually("the counter is raised", lambda: cache.get("ns:catalog"), 20)
    assert run("number = cache.get", product_id=7)["key"] == f"product:7:v{int(cache.get('ns:catalog'))}"
    assert evictd.stop() == 0


def test_the_calls_of_the_document_are_answered(make, database, cache):
    make("- {table: public.products, keys: ['product:{id}'], fill: checked}\n").start()
    eventually("the functions are there", lambda: cache.fcall("evictd_version", 0), 20)
    token = database.execute("select pg_current_snapshot()::text").fetchone()[0]
    for beginning in ("FCALL evictd_fill 3 product:7", "FCALL evictd_get  2 order:17"):
        for line in sorted(block("docs/readers.md", beginning).splitlines(), key=lambda line: "evictd_fill" in line, reverse=True):
            answer = cache.execute_command(*line.replace("1040:1044:1041", token).split())
            assert answer == 1 or answer[:2] == [b"fresh", b"value"], line
    assert cache.smembers("tag:row:variants:9") == {b"order:17"}


def test_the_readers_of_a_cluster_join_and_see(database, cache):
    """On one server, with the functions as a cluster has them."""
    library = subprocess.run([binary(), "lua", "--cluster"], capture_output=True, text=True, check=True).stdout
    cache.execute_command("FUNCTION", "LOAD", "REPLACE", library)
    given = {"cache": cache, "database": database, "key": "product:7", "tags": ["category:3"],
             "load": lambda database, key: database.execute("select 'seven', pg_current_snapshot()::text").fetchone()}
    exec(block("docs/readers.md", "value, token = load(database, key)"), given)  # pylint: disable=exec-used
    assert cache.get("product:7") == b"seven" and cache.zrange("tag:category:3", 0, -1) == [b"product:7"]
    exec(block("docs/readers.md", "state, value, lease, version"), given)  # pylint: disable=exec-used
    assert given["state"] == b"stale", "its lazy tag was never joined"
    cache.fcall("evictd_join", 1, "evictd:{tag:category:3}", "product:7", 600_000, given["version"])
    exec(block("docs/readers.md", "state, value, lease, version"), given)  # pylint: disable=exec-used
    assert given["state"] == b"fresh"
    cache.execute_command("FUNCTION", "DELETE", "evictd")  # the next daemon loads its own


def test_an_audit_and_a_warm_start_print_what_the_documents_show(make, postgres, cache):
    query = block("docs/refresh.md", "select id, row_to_json(p)::text, array").strip()
    evictd = make(f"- table: public.products\n  name: products\n  keys: ['product:{{id}}']\n  tags: ['category:{{category_id}}']\n"
                  f"  fill: checked\n  refresh: {{query: \"{query}\", ttl: 10m}}\n").start()
    postgres.execute("alter table products add column if not exists sold_last_week int not null default 0;"
                     "update products set sold_last_week = 1 where id <= 40")
    command, shape = block("docs/refresh.md", "$ evictd warm").splitlines()
    arguments = re.search(r"(--rule \S+) --where '(.*)'", command)
    for _ in range(2):
        done = evictd.command("warm", *arguments[1].split(), "--where", arguments[2])
        assert done.returncode == 0, done.stderr
        before = done.stdout.splitlines()[-1]
        cache.delete("product:7", "product:8")
    assert before == "40 rows: 2 filled, 38 fresh"
    assert re.sub(r"\d+", "N", before) == re.sub(r"\d+", "N", shape)
    assert cache.scard("tag:category:2") > 0, "the query's tags are listed"
    shown = block("docs/audit.md", "$ evictd audit").splitlines()[1:]
    done = evictd.command("audit")
    assert done.returncode == 0, done.stdout + done.stderr
    as_shape = [re.sub(r"\d+(\.\d+)?", "N", line) for line in done.stdout.splitlines()]
    assert as_shape[0] == re.sub(r"\d+(\.\d+)?", "N", shown[0]) and as_shape[1].startswith("none of N judged values is stale"), done.stdout


def test_the_query_that_tells_deleted_rows_finds_them(make, postgres, cache):
    query = block("docs/audit.md", "select k.id").strip()
    evictd = make(f"- table: public.products\n  keys: ['product:{{id}}']\n  audit: {{query: \"{query}\"}}\n").start()
    cache.mset({"product:1": "Product 1", "product:100000": "of a row that is gone"})
    done = evictd.command("audit", timeout=120)
    assert done.returncode == 1 and "product:100000" in done.stdout and "product:1 " not in done.stdout, done.stdout + done.stderr


def test_the_worker_of_a_stream_fills_what_was_deleted(make, postgres, database, redis, cache):
    make("- table: public.products\n  keys: ['product:{id}']\n  fill: checked\n  refresh: {stream: 'evictd:refresh', maxlen: 100000}\n").start()
    client = redis.client(decode_responses=True)
    client.xgroup_create("evictd:refresh", "warmers", id="0", mkstream=True)
    client.set("product:7", "old")
    postgres.execute("update products set price_cents = 777 where id = 7")

    def load(key):
        return database.execute("select price_cents::text, pg_current_snapshot()::text from products where id = %s", (key.split(":")[1],)).fetchone()

    given = {"cache": client, "worker": "w1", "load": load, "marker": lambda key: "evictd:{%s}" % key}

    def is_filled():
        exec(block("docs/refresh.md", "for stream, entries"), given)  # pylint: disable=exec-used
        return client.get("product:7") == "777"

    eventually("the worker has filled it", is_filled, 30)


def test_a_failed_case_is_told_as_the_document_shows():
    folder = process.temporary_folder("evictd-cases-")
    with open(f"{folder}/evictd.yaml", "w", encoding="utf-8") as file:
        file.write("postgres: {url: postgresql://x/y}\nredis: {url: redis://x}\nrules: rules.yaml\n")
    with open(f"{folder}/rules.yaml", "w", encoding="utf-8") as file:
        file.write("rules:\n- {table: products, name: products, keys: ['product:{id}', 'product:slug:{slug}'], tags: ['category:{category_id}']}\n")
    with open(f"{folder}/cases.yaml", "w", encoding="utf-8") as file:
        file.write(block("docs/rules.md", "- name: a slug is renamed"))
    command = [binary(), "rules", "test", "-c", f"{folder}/evictd.yaml", f"{folder}/cases.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(f"{folder}/rules.yaml", "w", encoding="utf-8") as file:
        file.write("rules:\n- {table: products, name: products, keys: ['product:{id}'], tags: ['category:{category_id}', 'brand:{id}']}\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = {line.split()[0] for line in block("docs/rules.md", "ok    a slug").splitlines()}
    assert done.returncode == 1 and {"FAIL", "missing", "too"} <= words & set(re.findall(r"\S+", done.stdout)), done.stdout


class _Pages(http.server.BaseHTTPRequestHandler):
    """An application: each request makes a page anew, with the surrogate keys that its path names."""

    made = 0

    def do_GET(self):
        type(self).made += 1
        body = str(self.made).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("xkey", urllib.parse.unquote(self.path[1:]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_a_varnish_without_the_module_bans(postgres):
    try:
        servers.varnish_program()
    except servers.ServerMissing as missing:
        assert os.environ.get("EVICTD_REQUIRE_SERVERS") != "1", missing
        pytest.skip(str(missing))
    head = 'vcl 4.1;\nimport std;\nacl purgers { "127.0.0.1"; }\n'
    vcl = (head + "sub vcl_recv {\n" + block("docs/edge.md", 'if (req.method == "BAN")') + "}\n"
           + block("docs/edge.md", "vcl 4.1;").partition("sub vcl_synth")[1] + block("docs/edge.md", "vcl 4.1;").partition("sub vcl_synth")[2])
    assert "import xkey" not in vcl
    application = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    varnish = servers.Varnish(process.temporary_folder("evictd-ban-"), application.server_address[1], vcl).start()

    def page(keys):
        with urllib.request.urlopen(varnish.url() + urllib.parse.quote(keys), timeout=20) as answer:
            return answer.read()

    try:
        folder = process.temporary_folder("evictd-ban-daemon-")
        redis_ = servers.Redis(f"{folder}/redis").start()
        one = Evictd(folder, postgres.url(), "", "- {table: public.products, surrogate_keys: ['product-{id}', 'slug-{slug}'], settle: 50ms}\n", slot="bans", publication="bans",
                     caches=f"  main: {{redis: {{url: {redis_.url()}}}}}\n  edge: {{varnish: {{url: {varnish.url()}, method: BAN}}, origin_time: 50ms}}\n").start()
        for slug in ("plain", "a.b+c$d", "a|b (c)"):
            postgres.execute("update products set slug = %s where id = 7", (slug,))
            oracle.wait_until_acknowledged(postgres, "bans")
            spelled = {"a|b (c)": "a%7cb%20%28c%29"}.get(slug, slug)
            pages = ["product-7", "product-7 site", "site product-7", f"slug-{spelled}"]
            others = ["product-77", "site", "slug-aXb", "xproduct-7"]
            before = {keys: page(keys) for keys in pages + others}
            assert before == {keys: page(keys) for keys in before}, "pages are kept"
            postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
            oracle.wait_until_acknowledged(postgres, "bans")
            assert [keys for keys in before if page(keys) != before[keys]] == pages
        assert one.metrics().sum("evictd_edge_requests_total", outcome="failed") == 0
        # What Varnish takes for no ban is an error, and not a 200.
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(urllib.request.Request(varnish.url(), headers={"xkey": "a b"}, method="BAN"), timeout=20)
        assert one.stop() == 0
        one.command("drop", "--yes")
        redis_.stop()
    finally:
        varnish.stop()
        application.shutdown()
        application.server_close()


def test_the_rules_for_frameworks_make_the_keys_beside_them():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text_of("docs/adopting.md").partition("## Keys that frameworks make")[2], re.M)[1:]
    assert len(rows) >= 7
    made = 0
    for framework, its_keys, rule in rows:
        for kind, template in re.findall(r'`(keys|purge): \["([^"]+)"\]`', rule):
            rules = f"{{table: products, {kind}: ['{template}']}}"
            folder = process.temporary_folder("evictd-framework-")
            with open(f"{folder}/evictd.yaml", "w", encoding="utf-8") as file:
                file.write(f"postgres: {{url: postgresql://x/y}}\nredis: {{url: redis://x}}\nrules:\n- {rules}\n")
            done = subprocess.run([binary(), "explain", "-c", f"{folder}/evictd.yaml", "--table", "products", "--op", "update", "--old",
                                   '{"id": 7}', "--new", '{"id": 7}'], capture_output=True, text=True, check=False)
            key = template.replace("{id}", "7")
            assert done.returncode == 0 and re.search(rf"{kind.removesuffix('s')} +{re.escape(key)} ", done.stdout), (framework, done.stdout, done.stderr)
            if "prefix" not in its_keys and kind == "keys":
                assert f"{key}`" in its_keys, f"{framework}: the keys are {its_keys}, the rule makes {key}"
            made += 1
    assert made >= 5


def test_the_rate_of_wal_is_a_number(postgres):
    with postgres.connect().cursor() as cursor:  # one session: the table is temporary
        for statement in block("docs/sizing.md", "create temporary table wal_before").replace("pg_sleep(1)", "pg_sleep(0.1)").split(";")[:-1]:
            cursor.execute(statement)
        assert cursor.fetchone()[0] >= 0


def test_an_editor_finds_the_schema_where_the_document_says():
    path = re.search(r"schema=(\S+)", block("docs/install.md", "# yaml-language-server"))[1]
    with open(f"{ROOT}/deploy/CMakeLists.txt", encoding="utf-8") as file:
        assert "schema prometheus" in file.read()
    assert path.startswith("/usr/share/evictd/") and os.path.exists(f"{ROOT}/deploy/{path.removeprefix('/usr/share/evictd/')}")
