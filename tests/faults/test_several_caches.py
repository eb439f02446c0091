"""Several caches behind one evictd: each has its own progress, record, repairs and lag, and none waits for another
(G9). PostgreSQL and every Redis are real; a fault of one is shown by what happens in the others."""

import os
import shutil
import signal
import subprocess

import pytest
import scenarios
from harness import cluster as clusters
from harness import oracle, shop
from harness.load import Load
from harness.proxy import Proxy
from harness.waiting import eventually

# What is asked of a cache that goes on while another one stands: it must not take as long as anything that might end the
# other one's fault, its timeout first of all.
PATIENT = "timeout: 5m"


class Caches:
    """Redis servers by name, and the daemon that follows them."""

    def __init__(self, postgres, make_redis, make_evictd):
        self.postgres = postgres
        self.servers = {}
        self.clients = {}
        self.ways = {}  # proxies of evictd's own to some of them
        self.evictd = None
        self._make_redis = make_redis
        self._make_evictd = make_evictd

    def add(self, name, *options):
        self.servers[name] = self._make_redis(*options)
        self.clients[name] = self.servers[name].client()
        shop.plant_sentinels(self.clients[name])

    def start(self, rules=None, ready=True, **settings):
        """`settings`: by cache, what stands beside its url: a map of the cache's own settings, where 'redis' means those of
        its Redis."""
        texts = {}
        for name, server in self.servers.items():
            own = dict(settings.get(name, {}))
            redis_more = "".join(f"\n      {line}" for line in own.pop("redis", "").splitlines())
            lines = "".join(f"\n    {key}: {value}" for key, value in own.items())
            url = server.url(port=self.ways[name].port) if name in self.ways else server.url()
            texts[name] = f"  {name}:\n    redis:\n      url: {url}{redis_more}{lines}\n"
        self.evictd = self._make_evictd(rules=rules, caches="".join(texts.values()))
        self.evictd.start(ready=ready)
        return self.evictd

    def fill(self, *keys, names=None):
        for name in names or self.servers:
            scenarios.cached(self.clients[name], self.postgres, *keys)

    def gone(self, name, *keys, seconds=30):
        scenarios.gone(self.clients[name], *keys, seconds=seconds)

    def has(self, name, *keys):
        return self.clients[name].exists(*keys) == len(keys)

    def metric(self, metric, name, **labels):
        return self.evictd.metrics().get(metric, cache=name, **labels)

    def status(self, name):
        return next(cache for cache in self.evictd.status()["caches"] if cache["name"] == name)

    def change(self, product):
        self.postgres.execute("update products set price_cents = price_cents + 1 where id = %s", (product,))

    def assert_true(self, at_least=1):
        for name, client in self.clients.items():
            found, checked = shop.differences(self.postgres, client)
            assert not found, f"cache '{name}' does not tell the truth:\n  " + "\n  ".join(found)
            assert checked >= at_least, f"cache '{name}' holds only {checked} values: the test proves nothing"

    def converge(self, at_least=1):
        oracle.converge(self.postgres, self.evictd)
        self.assert_true(at_least)

    def goes_on(self, name, products):
        """Each change leaves the cache, one after the other."""
        for product in products:
            self.fill(f"product:{product}", names=[name])
            self.change(product)
            self.gone(name, f"product:{product}")

    def record_gets_past_now(self, name):
        """It says that a transaction which ends behind the log's end of now is applied."""
        now = self.postgres.value("select (pg_current_wal_lsn() - '0/0')::bigint")
        self.change(100)

        def is_past():
            words = [line.split() for line in self.clients[name].get("evictd:record:evictd").decode().splitlines()]
            return max(int(line[1]) for line in words if line[0] in ("committed", "acknowledged")) > now
        eventually(f"the record of '{name}' is past {now}", is_past, 30)

    def is_parked(self, name):
        return self.metric("evictd_parked", name) == 1


@pytest.fixture
def caches(postgres, make_redis, make_evictd):
    made = Caches(postgres, make_redis, make_evictd)
    for name in ("a", "b"):
        # With its data on disk: what a restart brings back is what it had.
        made.add(name, "--appendonly", "yes", "--appendfsync", "always")
    return made


@pytest.fixture
def way_to_b(caches):
    caches.ways["b"] = Proxy(caches.servers["b"].port)
    yield caches.ways["b"]
    caches.ways["b"].stop()


def stopped(server):
    server.process.send_signal(signal.SIGSTOP)


def goes_on(server):
    server.process.send_signal(signal.SIGCONT)


def test_every_cache_gets_the_deletes_and_a_rule_may_name_its_caches(caches, shop_rules):
    only_a = "  - table: public.products\n    keys: ['price:{id}']\n    caches: [a]\n"
    evictd = caches.start(shop_rules + only_a)
    caches.fill("product:1", "product:2", "listing:2")
    for client in caches.clients.values():
        client.set("price:1", "cached")
    caches.change(1)
    for name in caches.servers:
        caches.gone(name, "product:1", "listing:2")
    caches.gone("a", "price:1")
    oracle.converge(caches.postgres, evictd)
    assert caches.has("b", "price:1"), "the rule is not for b"
    caches.clients["b"].delete("price:1")  # the oracle does not know it
    caches.assert_true()
    metrics = evictd.metrics()
    for name, deleted in (("a", 3), ("b", 2)):  # a key, what is listed under its tag, and the price
        assert metrics.sum("evictd_invalidations_total", cache=name, outcome="deleted") == deleted, metrics.text
        assert metrics.get("evictd_redis_connected", cache=name) == 1
        assert metrics.get("evictd_lag_seconds", cache=name) == 0
        assert metrics.sum("evictd_invalidation_latency_seconds_count", cache=name) == 1
    assert [cache["name"] for cache in evictd.status()["caches"]] == ["a", "b"]


def test_a_cache_that_stands_still_holds_no_other_up(caches):
    evictd = caches.start(a={"redis": PATIENT}, b={"redis": PATIENT})
    caches.fill("product:1", "product:2")
    stopped(caches.servers["b"])
    caches.change(1)
    caches.goes_on("a", range(3, 23))
    assert caches.metric("evictd_redis_connected", "b") == 1, "its timeout is far away: nothing of the above waited for it"
    eventually("b is behind, a is not", lambda: caches.metric("evictd_lag_seconds", "b") > 1 and
               caches.metric("evictd_lag_seconds", "a") == 0)
    goes_on(caches.servers["b"])
    caches.gone("b", "product:1")
    caches.converge()
    assert caches.has("b", "product:2") and evictd.metrics().sum("evictd_gaps_total") == 0


def test_a_cache_that_is_killed_holds_no_other_up_and_loses_nothing(caches):
    evictd = caches.start()
    caches.fill("product:1", "product:2")
    caches.servers["b"].stop()

    def names_b():
        code, text = evictd.http("/readyz")
        assert code == 503 and "cache 'b': b is not connected\n" in text and "cache 'a'" not in text, f"{code}: {text}"
        return True

    eventually("readiness names b, and b alone", names_b)
    caches.change(1)
    caches.goes_on("a", range(3, 13))
    eventually("b is behind, a is not", lambda: caches.metric("evictd_lag_seconds", "b") > 1 and
               caches.metric("evictd_lag_seconds", "a") == 0)
    assert caches.status("b")["connected"] is False and caches.status("a")["connected"] is True
    caches.servers["b"].start()
    caches.gone("b", "product:1")
    caches.converge()
    assert caches.has("b", "product:2"), "it came back with its last record: nothing is purged"
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_a_cache_that_comes_back_with_older_data_is_purged_alone(caches):
    # Without its journal: it comes back with the dump.
    caches.add("old")
    evictd = caches.start()
    caches.fill("product:1", "product:2")
    oracle.converge(caches.postgres, evictd)
    caches.clients["old"].save()
    caches.change(1)
    caches.gone("old", "product:1")
    oracle.converge(caches.postgres, evictd)
    evictd.signal(signal.SIGSTOP)  # it would be quicker than we are
    caches.servers["old"].stop()
    caches.servers["old"].start()
    assert caches.has("old", "product:1"), "the dump has it"
    evictd.signal(signal.SIGCONT)
    eventually("the rollback is seen", lambda: caches.metric("evictd_gaps_total", "old", reason="redis_rollback") == 1)
    caches.gone("old", "product:1", "product:2")
    oracle.converge(caches.postgres, evictd)
    assert caches.has("a", "product:2") and caches.has("b", "product:2")
    assert evictd.metrics().sum("evictd_gaps_total") == 1
    caches.fill("product:3")
    caches.converge()


def assert_parked_and_purged_on_return(caches, evictd, back):
    """b was given up: the database is not held up, a works; `back` brings b back, which is purged, alone."""
    eventually("b is parked", lambda: caches.is_parked("b"), 60)
    assert not caches.is_parked("a")
    code, text = evictd.http("/readyz")
    assert code == 503 and "cache 'b': b is parked" in text and "cache 'a'" not in text, text
    caches.goes_on("a", range(3, 13))
    # Nothing of it comes again.
    oracle.wait_until_acknowledged(caches.postgres, "evictd")
    assert caches.metric("evictd_lag_seconds", "a") == 0
    assert caches.metric("evictd_lag_seconds", "b") > 1, "what it lacks does not count as applied"
    assert caches.status("b")["parked"] is True
    back()
    eventually("b is purged", lambda: caches.metric("evictd_gaps_total", "b", reason="parked") == 1, 60)
    caches.gone("b", "product:1", "product:2")
    eventually("all is well again", evictd.is_ready, 60)
    assert not caches.is_parked("b")
    assert caches.has("a", "product:2"), "a missed nothing"
    assert caches.metric("evictd_gaps_total", "a") in (None, 0)
    caches.fill("product:2", "product:20")
    caches.change(20)
    for name in caches.servers:
        caches.gone(name, "product:20")
    caches.converge()
    assert caches.metric("evictd_gaps_total", "b") == 1, "once"


def test_a_cache_that_was_away_too_long_is_parked_and_purged_when_it_is_back(caches):
    evictd = caches.start(b={"park_after": "{age: 2s}"})
    caches.fill("product:1", "product:2")
    caches.servers["b"].stop()
    caches.change(1)
    assert_parked_and_purged_on_return(caches, evictd, caches.servers["b"].start)


def test_a_cache_that_stood_still_too_long_is_parked_and_purged_when_it_goes_on(caches):
    """It stays connected all the time: being reachable is not enough to be followed again."""
    evictd = caches.start(b={"park_after": "{age: 2s}", "redis": PATIENT})
    caches.fill("product:1", "product:2")
    stopped(caches.servers["b"])
    caches.change(1)
    assert_parked_and_purged_on_return(caches, evictd, lambda: goes_on(caches.servers["b"]))


def test_a_parked_cache_is_purged_although_evictd_was_started_anew(caches):
    """Nobody remembers that it was parked; its record tells that it lacks what was acknowledged meanwhile."""
    evictd = caches.start(b={"park_after": "{age: 2s}"})
    caches.fill("product:1", "product:2")
    caches.servers["b"].stop()
    caches.change(1)
    eventually("b is parked", lambda: caches.is_parked("b"), 60)
    oracle.wait_until_acknowledged(caches.postgres, "evictd")
    assert evictd.stop() == 0
    evictd.start(ready=False)
    caches.servers["b"].start()
    caches.gone("b", "product:1", "product:2", seconds=60)
    eventually("all is well again", evictd.is_ready, 60)
    assert caches.has("a", "product:2")
    caches.fill("product:3")
    caches.converge()


RULES = """
- {{table: public.products, keys: ['product:{{id}}']{products}}}
- {{table: public.categories, keys: ['category:{{id}}']{categories}}}
"""


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_rules_that_change_purge_what_they_match_and_nothing_else(caches, how):
    evictd = caches.start(RULES.format(products="", categories=""))

    def use(**changed):
        evictd.write_rules(RULES.format(**{"products": "", "categories": "", **changed}))
        if how == "reload":
            reloads = evictd.metrics().sum("evictd_rules_reload_total", outcome="success")
            evictd.signal(signal.SIGHUP)
            eventually("the rules are reloaded",
                       lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") > reloads)
        else:
            assert evictd.stop() == 0
            evictd.start()
        oracle.converge(caches.postgres, evictd)

    caches.fill("product:2", "category:1")
    oracle.converge(caches.postgres, evictd)
    use()
    for name in caches.servers:
        assert caches.has(name, "product:2", "category:1"), "the same rules purge nothing"

    use(categories=", when_changed: [name]")
    for name in caches.servers:
        assert not caches.has(name, "category:1"), name
        assert caches.has(name, "product:2"), f"the products' rule is the same, in {name}"

    caches.fill("category:1")
    use(categories=", when_changed: [name]", products=", caches: [b]")
    for name in caches.servers:
        assert caches.has(name, "category:1"), name
    # In b the rule is what it was; in a nothing acts on the table any more.
    assert caches.has("a", "product:2") and caches.has("b", "product:2")

    caches.change(2)
    caches.gone("b", "product:2")
    caches.fill("product:3", names=["b"])
    use(categories=", when_changed: [name]")
    assert not caches.has("a", "product:2"), "nobody watched it in a"
    assert caches.has("b", "product:3"), "somebody did in b"
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    caches.fill("product:2", "category:1")
    caches.converge()


def test_a_cache_that_was_away_when_the_rules_changed_is_purged_by_its_own_record(caches):
    evictd = caches.start(RULES.format(products="", categories=""))
    caches.fill("product:2", "category:1")
    oracle.converge(caches.postgres, evictd)
    caches.servers["b"].stop()
    assert evictd.stop() == 0
    evictd.write_rules(RULES.format(products="", categories=", when_changed: [name]"))
    evictd.start(ready=False)
    caches.gone("a", "category:1")
    assert caches.has("a", "product:2")
    caches.servers["b"].start()
    caches.gone("b", "category:1")
    eventually("all is well again", evictd.is_ready, 60)
    assert caches.has("b", "product:2")
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    caches.converge()


def test_a_cache_that_is_filled_from_another_is_purged_after_it(caches):
    """'near' is filled from 'a': purged before it, it would be filled again with what is still stale there."""
    caches.add("near")
    evictd = caches.start(near={"after": "[a]", "redis": PATIENT}, a={"redis": PATIENT})
    caches.fill("product:1", "product:2")
    stopped(caches.servers["a"])
    caches.change(1)
    caches.gone("b", "product:1")
    eventually("near is behind", lambda: caches.metric("evictd_lag_seconds", "near") > 2)
    assert caches.has("near", "product:1"), "purged before the cache that it is filled from"
    goes_on(caches.servers["a"])
    for name in ("a", "near"):
        caches.gone(name, "product:1")
    caches.converge()
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_what_stands_behind_a_repaired_cache_is_purged_after_it(caches):
    """While 'a' was stale, 'near' may have been filled from it."""
    caches.add("near")
    evictd = caches.start(near={"after": "[a]"}, a={"park_after": "{age: 2s}"})
    caches.fill("product:1", "product:2")
    oracle.converge(caches.postgres, evictd)
    caches.servers["a"].stop()
    caches.change(1)
    eventually("a is parked", lambda: caches.is_parked("a"), 60)
    caches.gone("near", "product:1")  # it waits for a no longer
    oracle.wait_until_acknowledged(caches.postgres, "evictd")
    caches.servers["a"].start()
    # The application reads through near to a, and a is stale until it is purged.
    caches.gone("a", "product:1", "product:2")
    caches.gone("near", "product:2")
    oracle.converge(caches.postgres, evictd)
    assert caches.has("b", "product:2")
    caches.fill("product:3")
    caches.converge()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_what_stands_behind_a_repaired_cache_is_purged_after_it_although_evictd_was_started_anew(caches, how):
    """It was away when 'a' was repaired, so its own record does not say that it has to be."""
    caches.add("near", "--appendonly", "yes")
    evictd = caches.start(near={"after": "[a]"})
    caches.fill("product:1", "product:2")
    oracle.converge(caches.postgres, evictd)
    stopped(caches.servers["near"])
    eventually("near is away", lambda: caches.metric("evictd_redis_connected", "near") == 0 or evictd.http("/readyz")[0] == 503, 30)
    caches.clients["a"].flushall()
    eventually("a is repaired", lambda: "cache 'a': repaired: redis_rollback" in evictd.log_text(), 30)
    eventually("what else a has to say is on record", lambda: b"acknowledged" in (caches.clients["a"].get("evictd:record:evictd") or b""), 30)
    if how == "killed":
        evictd.kill()
    else:
        evictd.stop()
    goes_on(caches.servers["near"])
    evictd.start()
    caches.gone("near", "product:2")
    oracle.converge(caches.postgres, evictd)
    assert caches.has("b", "product:2")
    # Nothing of it is left on record, and another start purges nothing.
    caches.fill("product:2", "product:3")
    oracle.converge(caches.postgres, evictd)
    eventually("a's record has no gap", lambda: b"\ngap " not in caches.clients["a"].get("evictd:record:evictd"), 30)
    evictd.kill()
    evictd.start()
    oracle.converge(caches.postgres, evictd)
    for name in ("a", "b", "near"):
        assert caches.has(name, "product:2", "product:3")


@pytest.mark.parametrize("how", ["followed on", "killed"])
def test_a_cache_that_was_away_when_the_database_was_set_back_is_purged_by_what_another_knows(caches, way_to_b, how):
    """Its own record is older than the moment that the database is at now. Readers reached it all the same, and filled it with what is gone."""
    postgres, evictd = caches.postgres, caches.start()
    oracle.converge(postgres, evictd)
    way_to_b.tell("refuse")
    eventually("b is away", lambda: caches.metric("evictd_redis_connected", "b") == 0, 30)
    caches.change(1)
    postgres.stop()
    subprocess.run(["cp", "-a", postgres.data, f"{postgres.folder}/kept"], check=True)
    postgres.start()
    caches.change(2)
    caches.fill("product:2")
    caches.gone("a", "product:2")
    caches.fill("product:2")
    caches.record_gets_past_now("a")
    if how == "killed":
        evictd.kill()
    postgres.stop("immediate")
    shutil.rmtree(postgres.data)
    os.rename(f"{postgres.folder}/kept", postgres.data)
    postgres.start()
    if how == "killed":
        evictd.start(ready=False)
    eventually("a is repaired", lambda: "cache 'a': repaired: epoch_changed" in evictd.log_text(), 60)
    caches.gone("a", "product:2")
    if how == "killed":
        evictd.kill()
        evictd.start(ready=False)
    way_to_b.tell("pass")
    evictd.wait_until_ready()
    caches.converge(at_least=0)


def test_the_purge_command_goes_from_cache_to_cache_as_they_are_filled_and_past_one_that_is_away(caches):
    """What is deleted before it is gone from where it is filled from comes back."""
    caches.add("near")
    caches.servers = {name: caches.servers[name] for name in ("near", "b", "a")}
    evictd = caches.start(near={"after": "[a]"})
    oracle.converge(caches.postgres, evictd)
    caches.servers["b"].stop()
    for more in ([], ["--where", "id < 3"]):
        caches.fill("product:1", "product:2", names=["a", "near"])
        done = evictd.command("purge", "--table", "products", *more)
        said = [line for line in done.stdout.splitlines() if line.startswith("cache ")]
        assert said == ["cache 'b'", "cache 'a'", "cache 'near'"], done.stdout
        assert done.returncode == 1 and "cache 'b': gave up" in done.stderr and "purge again when this one can be" in done.stderr, done.stderr
        for name in ("a", "near"):
            assert not caches.clients[name].exists("product:1", "product:2")


def test_all_of_it_under_load(caches, seed):
    """One cache after the other stands still, dies and is parked, while the shop reads and writes in a; at the end each
    tells the truth."""
    evictd = caches.start(a={"redis": "timeout: 1s"}, b={"redis": "timeout: 1s", "park_after": "{age: 3s}"})
    running = scenarios.under_load(caches.postgres, caches.servers["a"], seed)

    def read_in_b(_connection, cursor, client, _choices):
        for product in range(1, 40):
            shop.fill(client, cursor, f"product:{product}")

    def reads_in_b():
        return Load(caches.postgres, caches.servers["b"], seed, [read_in_b])

    def writes_on():
        target = running.writes + 100
        eventually("the writers write on", lambda: running.writes >= target, 60)

    with reads_in_b():
        writes_on()
    stopped(caches.servers["b"])
    writes_on()
    goes_on(caches.servers["b"])
    with reads_in_b():
        writes_on()
    caches.servers["b"].stop()
    eventually("b is parked", lambda: caches.is_parked("b"), 60)
    writes_on()
    caches.servers["b"].start()
    with reads_in_b():
        eventually("b is back", lambda: not caches.is_parked("b"), 60)
        stopped(caches.servers["a"])
        eventually("a is away", lambda: caches.metric("evictd_redis_connected", "a") == 0, 60)
        goes_on(caches.servers["a"])
        eventually("a is back", lambda: caches.metric("evictd_redis_connected", "a") == 1, 60)
        writes_on()
        running.stop_writers()
        # Read on in b too until evictd has caught up: what was read before it may all be deleted then.
        oracle.converge(caches.postgres, evictd, running)
    caches.assert_true()


UNSERVED = [
    ("announce", "- {table: public.products, keys: ['product:{id}'], announce: shop-changes}\n"),
    ("semantic", "- {table: public.products, keys: ['product:{id}']}\n"
                 "- {table: public.categories, semantic: [{index: answers, where: {source: 'category:{id}'}}]}\n"),
]


@pytest.fixture
def cluster(folder):
    made = clusters.Cluster(f"{folder}/cluster", replicas_each=0)
    yield made
    made.stop()


@pytest.fixture
def beside_a_cluster(postgres, redis, cluster, make_evictd):
    """A daemon for one server and a cluster, and what a change of a product has to delete in each."""
    texts = {"alone": redis.url(), "many": cluster.url()}
    evictd = make_evictd(rules=RULES.format(products="", categories=""),
                         caches="".join(f"  {name}:\n    redis:\n      url: {url}\n" for name, url in texts.items()))
    clients = {"alone": redis.client(), "many": cluster.client()}

    def followed(*names):
        for name in names:
            clients[name].set("product:1", "old")
        postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
        for name in names:
            eventually(f"{name} is followed", lambda name=name: not clients[name].exists("product:1"), 30)

    return evictd, followed


def reloads(evictd, outcome, seconds=30):
    before = evictd.metrics().sum("evictd_rules_reload_total", outcome=outcome)
    evictd.signal(signal.SIGHUP)
    eventually(f"the reload is counted as a {outcome}",
               lambda: evictd.is_running() and evictd.metrics().sum("evictd_rules_reload_total", outcome=outcome) > before, seconds)


def test_rules_that_a_cluster_cannot_serve_are_refused_and_every_cache_is_followed(beside_a_cluster):
    evictd, followed = beside_a_cluster
    evictd.start()
    followed("alone", "many")
    for setting, rules in UNSERVED:
        evictd.write_rules(rules)
        reloads(evictd, "failure")
        followed("alone", "many")
        assert evictd.is_ready()
        problem = evictd.status()["rules"]["reload_problem"]
        assert "/rules.yaml:" in problem, problem
        assert f"cache 'many': a rule has '{setting}', and this Redis is a cluster" in problem, problem
        assert f"leave '{setting}' out of the rules that act on this cache" in evictd.log_text()
        assert "the rules were not reloaded: the old ones stay" in evictd.log_text()
    evictd.write_rules(UNSERVED[0][1].replace("announce", "caches: [alone], announce"))
    reloads(evictd, "success")
    followed("alone")
    assert evictd.stop() == 0


def test_a_start_with_rules_that_a_cluster_cannot_serve_follows_the_other_cache(beside_a_cluster):
    evictd, followed = beside_a_cluster
    evictd.write_rules(UNSERVED[0][1])
    evictd.start(ready=False)
    eventually("it says what keeps the cluster away, and streams",
               lambda: "a rule has 'announce', and this Redis is a cluster" in (said := evictd.http("/readyz")[1]) and "streaming" not in said, 30)
    followed("alone")
    assert not evictd.is_ready()
    evictd.write_rules(RULES.format(products="", categories=""))
    reloads(evictd, "success")
    evictd.wait_until_ready()
    followed("alone", "many")
    assert evictd.stop() == 0


def test_a_start_for_a_cluster_alone_with_rules_that_it_cannot_serve_fails(cluster, make_evictd):
    evictd = make_evictd(rules=UNSERVED[0][1], redis_url=cluster.url()).start(ready=False)
    eventually("it ends", lambda: not evictd.is_running(), 30)
    assert evictd.process.returncode == 2
    assert "a rule has 'announce', and this Redis is a cluster" in evictd.log_text()
