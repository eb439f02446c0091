"""`audit: {rate: ...}`: evictd looks at what it has just invalidated, and slowly at all else, and tells it in /metrics and /status."""

from harness import oracle, process
from harness.waiting import eventually
from test_audit import CHECKED, JOINED, Load, PLAIN, SELECT, fill, fill_all, fill_counts, rules, shop_with_full_identities  # noqa: F401

AUDIT = "audit: {rate: 1000/s}\n"

# Of a small cache everything may have been looked at already: the next walk, and with it the next question to the database,
# comes a minute after.
NEXT_QUESTION = 150


def write_and_fill(postgres, cache, plain=False):
    """Some of the keys are looked at a moment after their settle."""
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 50")
    oracle.wait_until_acknowledged(postgres, "evictd")
    fill_all(postgres, cache, plain=plain)


def test_the_cache_is_audited_while_evictd_runs(postgres, redis, cache, make_evictd, seed):
    evictd = make_evictd(rules(CHECKED), more=AUDIT).start()

    def counted(outcome):
        return evictd.metrics().sum("evictd_audit_total", outcome=outcome, cache="redis", rule="public.products")

    with Load(postgres, redis, seed):
        eventually("keys are audited", lambda: counted("fresh") >= 100, 60)
    assert counted("stale") == 0, evictd.status()["audit"]
    status = evictd.status()["audit"]
    assert status["problem"] is None and status["last_stale"] == [] and "95 % confidence" in status["says"]

    oracle.wait_until_acknowledged(postgres, "evictd")
    old, token = postgres.execute(SELECT.replace("%s", "7"))[0]
    fill_all(postgres, cache, [7])
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("the delete", lambda: cache.get("product:7") is None)
    cache.delete("evictd:{product:7}")
    assert fill(cache, "product:7", old, token) == 1
    eventually("the stale value is found", lambda: counted("stale") == 1, 60)
    found = evictd.status()["audit"]["last_stale"][0]
    assert found["key"] == "product:7" and "has not seen" in found["reason"] and found["marker"].startswith("f ")
    metrics = evictd.metrics()
    assert metrics.sum("evictd_audit_staleness_seconds_count") == 1
    assert metrics.sum("evictd_audit_active") == 1
    assert evictd.stop() == 0


def test_keys_of_joined_tables_are_audited_while_evictd_runs(full, cache, make_evictd):
    """Those too that a joined row's own change deleted: they count for the rule as written."""
    names = list(fill_counts(full, cache))  # before the first walk: the next one comes a minute later
    evictd = make_evictd(rules(JOINED), more=AUDIT).start()

    def counted(outcome, rule="counts"):
        return evictd.metrics().sum("evictd_audit_total", outcome=outcome, cache="redis", rule=rule)

    eventually("keys are audited", lambda: counted("fresh") >= len(names), 60)
    cache.set("category:new:count", "of a category that was not there", ex=600)
    full.execute("insert into categories values (77, 'new')")
    eventually("the delete", lambda: cache.get("category:new:count") is None)
    oracle.wait_until_acknowledged(full, "evictd")
    cache.set("category:new:count", "spoiled", ex=600)
    eventually("the stale value is found", lambda: counted("stale") == 1, 150)
    assert evictd.status()["audit"]["not_audited"] == []
    assert counted("stale", "counts via category") == 0 and evictd.stop() == 0


def test_an_audit_holds_up_neither_deletes_nor_a_shutdown_of_the_server(postgres, cache, make_evictd):
    """A smart shutdown waits for each ordinary session, and tells none of them."""
    evictd = make_evictd(rules(CHECKED), more=AUDIT).start()
    eventually("it is connected", lambda: evictd.status()["audit"]["problem"] is None)
    fill_all(postgres, cache)
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 50")
    eventually("deletes go on", lambda: cache.get("product:3") is None)
    fill_all(postgres, cache)
    postgres.stop("smart", patience=30)
    eventually("and says so", lambda: evictd.status()["audit"]["problem"], NEXT_QUESTION)
    postgres.start()
    fill_all(postgres, cache)
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 50")
    eventually("it is connected again", lambda: evictd.status()["audit"]["problem"] is None, 60)
    assert evictd.status()["audit"]["stale"] == 0
    assert evictd.stop() == 0


def test_what_is_edited_and_not_reloaded_is_not_in_force(postgres, cache, make_evictd):
    evictd = make_evictd(rules(PLAIN), more=AUDIT).start()
    fill_all(postgres, cache, plain=True)

    def counted(*outcomes):
        return sum(evictd.metrics().sum("evictd_audit_total", outcome=outcome) for outcome in outcomes)

    evictd.write_rules(rules(PLAIN.replace("name ||", "'another ' || name ||")))
    postgres.stop("fast")
    eventually("it says that nothing is audited", lambda: "not audited: " in evictd.log_text(), NEXT_QUESTION)
    postgres.start()
    eventually("it is connected", lambda: evictd.status()["audit"]["problem"] is None, 60)
    evictd.wait_until_ready()
    before = counted("fresh", "stale", "unreadable")
    write_and_fill(postgres, cache, plain=True)
    eventually("keys are audited again", lambda: counted("fresh", "stale", "unreadable") > before, NEXT_QUESTION)
    assert counted("stale", "unreadable") == 0, evictd.status()["audit"]
    assert evictd.stop() == 0


def test_an_edge_has_nothing_to_audit(postgres, redis, cache, make_evictd):
    """It is a cache of the configuration, and of the rules that name none."""
    nobody = f"{{varnish: {{url: \"http://127.0.0.1:{process.free_port()}\"}}, park_after: never}}"
    evictd = make_evictd(rules(CHECKED), more=AUDIT, caches=f"  redis: {{redis: {{url: {redis.url()}}}}}\n  edge: {nobody}\n")
    evictd.start(ready=False)
    # What is filled before that is of no history that evictd knows, and cannot be judged.
    eventually("the history of this cache begins", lambda: "cache 'redis': first start" in evictd.log_text())
    fill_all(postgres, cache)
    # A walk that found nothing is followed by the next one after a minute.
    eventually("keys are audited", lambda: evictd.metrics().sum("evictd_audit_total", outcome="fresh", cache="redis") > 0, 150)
    counts, _, code, said = evictd.audit("--sample", "100")
    assert code == 0 and counts["fresh"] == 100, (counts, said)
    assert evictd.stop() == 0
