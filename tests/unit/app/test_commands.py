"""The commands of the built evictd against a private PostgreSQL and Redis: what they do and what they say.
tests/unit/app/cli_test.cpp holds what needs no server."""

import os
import signal
import subprocess

from harness import process
from harness.waiting import eventually

RULES = """
rules:
  - table: products
    keys: ["product:{id}", "product:slug:{slug}"]
    tags: ["category:{category_id}"]
"""


def full_identity(postgres):
    postgres.execute("alter table products replica identity full")


def test_check_is_clean_enough_to_run(postgres, redis, cache, make_evictd):
    full_identity(postgres)
    checked = make_evictd(rules=RULES).command("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " error " not in checked.stdout
    assert "\n0 errors, " in checked.stdout or checked.stdout.endswith("all is well\n")


def test_check_names_a_missing_table_and_its_line(postgres, redis, cache, make_evictd):
    checked = make_evictd(rules="- {table: produkte, keys: [\"product:{id}\"]}\n").command("check")
    assert checked.returncode == 2, checked.stdout
    assert "public.produkte" in checked.stdout and "rules.yaml:1:3" in checked.stdout, checked.stdout


def test_check_fails_when_a_server_is_away(postgres, redis, cache, make_evictd):
    away = make_evictd(rules=RULES, redis_url="redis://127.0.0.1:1").command("check")
    assert away.returncode == 1, away.stdout
    assert "RD001 error" in away.stdout
    away = make_evictd(rules=RULES, postgres_url="postgresql://postgres@127.0.0.1:1/shop").command("check")
    assert away.returncode == 1, away.stdout
    assert "PG001 error" in away.stdout


def test_run_ends_with_two_when_the_configuration_is_wrong(postgres, redis, cache, make_evictd):
    """Exit code 2, one error line with its hint, and no password in it."""
    cache.config_set("requirepass", "hunter2")
    wrong = make_evictd(rules=RULES, redis_url=redis.url(database=99).replace("redis://", "redis://:hunter2@"))
    wrong.start(ready=False)
    assert wrong.process.wait(timeout=20) == 2, wrong.log_tail()
    assert "look at the database number in 'redis: url:'" in wrong.log_tail() and "hunter2" not in wrong.log_tail()


def test_a_cache_with_a_wrong_password_is_waited_for_and_leaves_the_others_alone(postgres, redis, cache, make_redis, make_evictd):
    """It may be Redis that is to change, and the caches share the process (G9)."""
    other = make_redis()
    with other.client() as admin:
        admin.config_set("requirepass", "right")
    us = other.url().replace("redis://", "redis://:hunter2@")
    evictd = make_evictd(rules=RULES, caches=f"  eu: {{redis: {{url: {redis.url()}}}}}\n  us: {{redis: {{url: '{us}'}}}}\n")
    evictd.start(ready=False)
    eventually("it is told", lambda: "cache 'us': redis refused: 'WRONGPASS" in evictd.http("/readyz")[1])
    eventually("the other one is connected", lambda: evictd.metrics().get("evictd_redis_connected", cache="eu") == 1)
    assert "hunter2" not in evictd.log_text()
    eventually("it streams", lambda: evictd.metrics().get("evictd_active") == 1)
    cache.set("product:1", "v")
    postgres.execute("update products set name = name || '!' where id = 1")
    eventually("the other cache's key is gone", lambda: not cache.exists("product:1"))
    assert evictd.is_running()
    with other.client(password="right") as admin:
        admin.config_set("requirepass", "hunter2")
    evictd.wait_until_ready()


def test_a_cache_whose_user_may_not_wait_leaves_the_others_alone(postgres, redis, cache, make_redis, make_evictd):
    """Nothing is acknowledged, as without a replica; and the right may be granted while evictd runs (G9)."""
    master = make_redis()
    replica = make_redis("--replicaof", "127.0.0.1", str(master.port))
    with master.client() as admin:
        admin.execute_command("ACL", "SETUSER", "waiter", "on", ">pw", "~*", "&*", "+@all", "-wait")
        us = f"redis://waiter:pw@127.0.0.1:{master.port}"
        evictd = make_evictd(rules=RULES, caches=f"  eu: {{redis: {{url: {redis.url()}}}}}\n  us: {{redis: {{url: '{us}', replicas_ack: 1}}}}\n")
        evictd.start(ready=False)
        eventually("it is told", lambda: "cache 'us': redis at '127.0.0.1:" in (text := evictd.http("/readyz")[1]) and "does not let user 'waiter' run WAIT" in text)
        assert "ACL SETUSER waiter +wait" in evictd.log_text()
        for one in (cache, admin):
            one.set("product:1", "v")
        postgres.execute("update products set name = name || '!' where id = 1")
        eventually("both keys are gone", lambda: not cache.exists("product:1") and not admin.exists("product:1"))
        assert evictd.is_running() and evictd.http("/readyz")[0] == 503
        assert evictd.log_text().count("run WAIT") == 1, evictd.log_text()
        admin.execute_command("ACL", "SETUSER", "waiter", "+wait")
        evictd.wait_until_ready()
    assert "1 rule for 1 table from " in evictd.log_text()


def test_a_column_that_is_not_there_is_named_and_waited_for(postgres, cache, make_evictd):
    wrong = make_evictd(rules="- {table: products, keys: [\"product:{nr}\"]}\n")
    wrong.start(ready=False)
    eventually("it is named", lambda: "rules.yaml:1:28: key 'product:{nr}' names column 'nr'" in wrong.http("/readyz")[1])
    assert wrong.is_running() and not wrong.is_ready()


def test_purge_deletes_a_tables_keys_and_nothing_else(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    cache.mset({"product:1": "a", "product:slug:x": "b", "order:1": "mine"})
    cache.set("by-tag", "c")
    cache.sadd("tag:category:5", "by-tag")
    purged = evictd.command("purge", "--table", "products")
    assert purged.returncode == 0, purged.stderr
    assert purged.stdout.startswith("product:*  deleted 2, already gone 0\n"), purged.stdout
    assert purged.stderr == ""  # a snapshot was to be had
    assert cache.exists("product:1", "product:slug:x", "by-tag", "tag:category:5") == 0
    assert cache.get("order:1") == b"mine"
    # The daemon goes on working with the same keys.
    cache.set("product:1", "again")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the key is gone", lambda: cache.get("product:1") is None)


def test_purge_raises_counters_and_makes_lazy_tags_stale(redis, cache, make_evictd):
    evictd = make_evictd(rules="""
- {table: categories, bump: ['ns:catalog'], tags: ['category:{id}'], fill: checked, tags_mode: lazy, announce: shop}
""").start()
    cache.set("ns:catalog", 7)
    assert cache.execute_command("FCALL", "evictd_fill", 3, "p:1", "evictd:{p:1}", "evictd:{tag:category:1}",
                                 "1:1:", 60000, "v") == 1
    listening = redis.client().pubsub()
    listening.subscribe("shop")
    purged = evictd.command("purge", "--table", "categories")
    assert purged.returncode == 0, purged.stderr
    assert purged.stdout == "tag:category:*  made stale 1, already gone 0\nns:catalog  raised 1\n", purged.stdout
    assert cache.get("ns:catalog") == b"8"
    state = cache.execute_command("FCALL", "evictd_get", 3, "p:1", "evictd:{p:1}", "evictd:{tag:category:1}")[0]
    assert state == b"stale"

    def told_to_drop_all():
        message = listening.get_message(timeout=0.1)
        return message is not None and b"resync" in message["data"] if message and message["type"] == "message" else False

    eventually("subscribers are told to drop all", told_to_drop_all)


def test_purge_reaches_every_cache_that_a_template_is_for(postgres, redis, make_evictd):
    """One template in several rules, each for caches of its own, and some filled by checked readers."""
    evictd = make_evictd(rules="""
- {table: products, name: eu, keys: ['item:{id}'], caches: [eu]}
- {table: products, name: us, keys: ['item:{id}'], fill: checked, caches: [us]}
- {table: categories, name: more, keys: ['item:{id}'], caches: [eu]}
""", caches="".join(f"  {name}: {{redis: {{url: {redis.url(database)}}}}}\n" for name, database in (("eu", 1), ("us", 2)))).start()
    eu, us = redis.client(1), redis.client(2)
    old = postgres.value("select pg_current_snapshot()::text")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    for asked in (("--pattern", "item:*"), ("--table", "products")):
        for cache in (eu, us):
            cache.set("item:1", "a")
        purged = evictd.command("purge", *asked)
        assert purged.returncode == 0, purged.stderr
        assert eu.get("item:1") is None and us.get("item:1") is None, purged.stdout
        assert us.fcall("evictd_fill", 2, "item:1", "evictd:{item:1}", old, 60000, "of before") != 1


def test_purge_without_a_database_warns_and_purges(postgres, redis, cache, make_evictd):
    cache.set("product:1", "a")
    evictd = make_evictd(rules=RULES, postgres_url="postgresql://postgres@127.0.0.1:1/shop")
    purged = evictd.command("purge", "--pattern", "product:*")
    assert purged.returncode == 0, purged.stderr
    assert purged.stderr.startswith("warning: no snapshot of the database ("), purged.stderr
    assert cache.get("product:1") is None


def test_watch_prints_and_touches_nothing(postgres, redis, cache, make_evictd, folder):
    full_identity(postgres)
    evictd = make_evictd(rules=RULES).start()  # makes the publication
    assert evictd.stop() == 0
    cache.set("product:1", "stays")
    out = os.path.join(folder, "watch.out")
    watching = process.start([evictd.program, "watch", "-c", evictd.config], log=out)

    def said(text):
        with open(out, encoding="utf-8") as file:
            return text in file.read()

    try:
        eventually("watch streams", lambda: said("watching 1 table;"))
        postgres.execute("update products set slug = 'new' where id = 1")
        eventually("watch prints", lambda: said("    key   product:slug:new "))
        assert said("update   public.products  ")
        assert said("key   product:1 ")
    finally:
        process.end(watching, signal.SIGINT)
    assert watching.returncode == 0
    assert cache.get("product:1") == b"stays"
    eventually("the temporary slot is gone",
               lambda: postgres.value("select count(*) from pg_replication_slots where slot_name like '%watch%'") == 0)


def test_watch_without_a_publication_says_so(postgres, redis, cache, make_evictd):
    watched = make_evictd(rules=RULES).command("watch")
    assert watched.returncode == 2, watched.stderr
    assert "publication 'evictd'" in watched.stderr, watched.stderr


def test_an_audit_that_found_no_key_does_not_look_green(postgres, redis, cache, make_evictd):
    """Another prefix than the rules', or another database of Redis."""
    evictd = make_evictd(rules="- {table: products, keys: ['elsewhere:{id}'], fill: checked}\n").start()
    for how in ((), ("--json",)):
        audited = evictd.command("audit", *how)
        assert audited.returncode == 1, audited.stdout
        assert audited.stderr == "nothing could be judged: no key of these rules was found\n", audited.stderr


def test_drop_is_refused_while_evictd_runs(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    dropped = evictd.command("drop", "--yes")
    assert dropped.returncode == 2
    assert "slot 'evictd' is in use by" in dropped.stderr, dropped.stderr
    assert evictd.stop() == 0
    dropped = evictd.command("drop", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert cache.exists("evictd:record:evictd") == 0
    assert "is not followed" in dropped.stdout and "'on_first_start: purge'" in dropped.stdout, dropped.stdout


def test_drop_leaves_no_name_without_a_lifetime(postgres, redis, cache, make_redis, make_evictd):
    replica = make_redis("--replicaof", "127.0.0.1", str(redis.port))
    evictd = make_evictd(rules="- {table: products, keys: ['product:{id}'], fill: checked, announce: 'shop{1}'}\n",
                         caches=f"  eu: {{redis: {{url: '{redis.url()}', replicas_ack: 1}}}}\n").start()
    cache.set("product:1", "v")
    postgres.execute("update products set name = name || '!' where id = 1")
    eventually("the key is gone", lambda: not cache.exists("product:1"))
    kept = [b"evictd:announced:shop%7B1}", b"evictd:record:evictd", b"evictd:witness:evictd"]
    eventually("its names are there", lambda: cache.exists(*kept) == 3)
    assert evictd.stop() == 0
    cache.set("evictd:witness:another", "of another slot")
    dropped = evictd.command("drop", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert [key for key in cache.keys("evictd:*") if cache.ttl(key) == -1] == [b"evictd:witness:another"], cache.keys("evictd:*")
    assert replica.client().exists(*kept) == 0


def test_drop_takes_a_yes_as_people_write_it(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    assert evictd.stop() == 0
    command = [evictd.program, "drop", "-c", evictd.config]
    for answer, is_yes in (("n", False), ("", False), ("yesterday", False), ("Y", True), ("Yes", True), ("yes", True), ("y", True)):
        terminal, ours = os.openpty()
        asking = subprocess.Popen(command, stdin=ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.write(terminal, answer.encode() + b"\n")
        said, errors = asking.communicate(timeout=30)
        os.close(terminal)
        os.close(ours)
        assert ("nothing was removed" in said) != is_yes, (answer, said, errors)
        assert "before the next 'evictd run', empty the cache, or set 'on_first_start: purge'" in said, said


def test_a_reload_takes_new_rules(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    evictd.write_rules(RULES + "  - {table: settings, purge: [\"config:*\"]}\n")
    evictd.signal(signal.SIGHUP)
    eventually("the rules are reloaded",
               lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="success") == 1)
    eventually("it is said", lambda: "reloaded the rules: 2 rules for 2 tables; changed: " in evictd.log_text())
    evictd.wait_until_ready()
    cache.set("config:theme", "old")
    postgres.execute("update settings set value = value || '!'")
    eventually("the new rule deletes", lambda: cache.get("config:theme") is None)
    evictd.write_rules("rules: 7\n")
    evictd.signal(signal.SIGHUP)
    eventually("the failure is counted",
               lambda: evictd.metrics().sum("evictd_rules_reload_total", outcome="failure") == 1)
    evictd.wait_until_ready()  # the old rules stay
    assert "rules.yaml:1:8: " in evictd.log_tail()
    evictd.write_rules(RULES)
    evictd.signal(signal.SIGHUP)
    eventually("they are the first ones again", lambda: "reloaded the rules: 1 rule for 1 table; changed: " in evictd.log_text())
