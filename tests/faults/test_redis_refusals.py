"""Redis is there, takes evictd's connection, and refuses what evictd asks for: a right was taken away, a command has another
name. Whatever stays cached meanwhile is stale, however often the connection is made anew."""

import re
import subprocess
import time

import pytest
from harness.proxy import Proxy
from harness.waiting import eventually

FAR_MS = 60  # an order that is refused is refused so much later: for so long the connection looks well

TABLES = """
create table pages (id int primary key, shelf int not null);
alter table pages replica identity full;
insert into pages select n, n % 3 from generate_series(1, 9) n;
create table goods (id int primary key, price int not null);
insert into goods values (1, 0);
"""
RULES = """
- {table: public.pages, keys: ["page:{id}"], tags: ["shelf:{shelf}"]}
- {table: public.goods, keys: ["goods:{id}"], fill: checked}
"""

# What is taken away, and the key that stays for it.
TAKEN = {
    "sscan": (["-sscan"], ["+sscan"], "listed:1"),
    "multi": (["-multi"], ["+multi"], None),
    "keys of a plain rule": (["resetkeys", "~evictd:*", "~goods:*", "~tag:*", "~listed:*"], ["~*"], "page:1"),
    "keys of a checked rule": (["resetkeys", "~evictd:*", "~page:*", "~tag:*", "~listed:*"], ["~*"], "goods:1"),
    "scripts": (["-evalsha"], ["+evalsha"], "goods:1"),
}


class Watch:
    """Every answer of /readyz since then."""

    def __init__(self, evictd):
        self.evictd = evictd
        self.texts = []
        self.was_ready = 0

    def look(self):
        code, text = self.evictd.http("/readyz")
        self.was_ready += code == 200
        self.texts.append(text)
        return text


def connects(evictd):
    return evictd.metrics().sum("evictd_reconnects_total", peer="redis")


@pytest.fixture
def far_redis(redis):
    proxy = Proxy(redis.port)
    proxy.tell(f"delay {FAR_MS}")
    yield proxy
    proxy.stop()


def cache_and_change(postgres, cache):
    cache.sadd("tag:shelf:1", "listed:1")
    for key in ("listed:1", "page:1", "goods:1"):
        cache.set(key, "as it was")
    postgres.execute("update pages set shelf = 1 where id = 1; update goods set price = price + 1")


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_refused_again_and_again_is_never_passed_over(postgres, cache, make_evictd, far_redis, what):
    take, give, stays = TAKEN[what]
    postgres.execute(TABLES)
    cache.execute_command("ACL", "SETUSER", "evictd", "on", ">pw", "~*", "&*", "+@all")
    evictd = make_evictd(rules=RULES, redis_url=f"redis://evictd:pw@127.0.0.1:{far_redis.port}/0").start()
    cache.execute_command("ACL", "SETUSER", "evictd", *take)
    cache_and_change(postgres, cache)
    eventually("the refusal is told", lambda: not evictd.is_ready(), 30)
    watch, before = Watch(evictd), connects(evictd)
    deadline = time.monotonic() + 30
    while connects(evictd) < before + 3 and (stays or time.monotonic() < deadline - 25):
        assert time.monotonic() < deadline, "it does not try again"
        for _ in range(10):
            watch.look()
    if stays:
        assert cache.exists(stays)
    assert watch.was_ready == 0, set(watch.texts)
    assert any("NOPERM" in text for text in watch.texts), set(watch.texts)
    cache.execute_command("ACL", "SETUSER", "evictd", *give)
    evictd.wait_until_ready()
    assert not cache.exists("listed:1", "page:1", "goods:1")


@pytest.mark.parametrize("command", ["SSCAN", "SREM", "MULTI", "EXEC", "UNLINK"])
def test_a_command_that_was_renamed_is_named_and_waited_for(postgres, make_redis, make_evictd, command):
    """Not ready with the reason, and ready as soon as another Redis, which has it, stands at that address."""
    redis = make_redis("--rename-command", command, f"OTHER{command}")
    postgres.execute(TABLES)
    evictd = make_evictd(rules=RULES, redis_url=redis.url()).start(ready=False)
    if command in ("SSCAN", "SREM"):  # asked for by a tag's set alone
        evictd.wait_until_ready()
        redis.client().sadd("tag:shelf:1", "listed:1")
        postgres.execute("update pages set shelf = 1 where id = 1")
    else:
        eventually("evictd is there", lambda: evictd.http("/readyz")[0] != 0)
    watch = Watch(evictd)
    eventually("it is named", lambda: f"unknown command '{command}'" in watch.look())
    before = len(watch.texts)
    watch.was_ready = 0
    eventually("it is tried again", lambda: connects(evictd) > 0 and watch.look() and len(watch.texts) > before + 50)
    assert watch.was_ready == 0
    assert evictd.is_running() and "rename-command" in evictd.log_text()
    redis.options = []
    redis.stop()
    redis.start()
    evictd.wait_until_ready()


def test_a_redis_that_is_not_there_is_told_with_what_to_do(redis, make_evictd):
    redis.stop()
    evictd = make_evictd().start(ready=False)
    told = re.compile(r"hint: .*'redis: url:'.*'(redis-cli [^']* ping)'")
    advice = eventually("what to do is told", lambda: told.search(evictd.log_text()))[1]
    assert "PONG" not in subprocess.run(advice.split(), capture_output=True, text=True, check=False).stdout
    redis.start()
    assert subprocess.run(advice.split(), capture_output=True, text=True, check=False).stdout == "PONG\n"
    evictd.wait_until_ready()
