"""A reader with the documented rights is the attacker: whatever it calls, it reaches nothing but values and markers of its own
keys, and the daemon goes on."""

import random
import re

import pytest
import redis as redis_client
import scenarios
from harness import daemon, oracle
from hostile import attacks

RULES = """
- {table: public.products, keys: ['product:{id}'], tags: ['category:{category_id}'], fill: checked}
"""
FUNCTIONS = ["evictd_fill", "evictd_get", "evictd_invalidate", "evictd_stats", "evictd_version", "evictd_join", "evictd_seen"]
SEES_ALL = "4000000000:4000000000:"


def reader_lines():
    with open(f"{daemon.ROOT}/docs/readers.md", encoding="utf-8") as file:
        return {block.split()[2]: block.split() for block in re.findall(r"^```\n(ACL SETUSER .*?)^```", file.read(), re.M | re.S)}


@pytest.fixture
def evictd(make_evictd):
    return make_evictd(rules=RULES).start()


@pytest.fixture(params=["reader", "lazy", "writer"])
def user(request, redis, evictd):
    assert evictd.is_ready()
    words = reader_lines()[request.param]
    assert redis.client().execute_command(*words) == b"OK"
    password = next(word[1:] for word in words if word.startswith(">"))
    # Long enough for what the attacks send, short enough to show that Redis is kept busy.
    return redis_client.Redis(port=redis.port, username=request.param, password=password, socket_timeout=5)


def number(choice):
    return choice.choice(["0", "1", "-1", "60000", "1e9", "0x10", "nan", "inf", "9" * 30, "9007199254740993", "18446744073709551616", "", " 1"])


def token(choice):
    kind = choice.randrange(8)
    if kind == 0:
        return SEES_ALL
    if kind == 1:
        return f"{number(choice)}:{number(choice)}:{number(choice)}"
    if kind == 2:  # many transactions in progress
        count = choice.choice([100, 1_000, 5_000, 20_000])
        return "1000000:2000000:" + ",".join(str(1_000_000 + i) for i in range(1, count))
    if kind == 3:
        return "v:" + choice.choice([number(choice), "2024-02-03T04:05:06.789Z", "9" * 60_000])
    if kind == 4:
        return "lease:" + attacks.text(choice)
    if kind == 5:
        return ":" * choice.choice([1, 100, 60_000])
    return attacks.data(choice)


def own_key(choice):
    return f"product:{choice.choice(['1', '2', '{7}', 'x' * 2_000, attacks.text(choice)])}"


def any_key(choice):
    return choice.choice([own_key(choice), "session:admin", "evictd:purged", "evictd:record:evictd", "evictd:{product:1}", "evictd:{tag:category:1}",
                          "tag:category:1", "evictd:announced:c", "", attacks.text(choice)])


def command(choice):
    if choice.random() < 0.75:
        key = own_key(choice) if choice.random() < 0.7 else any_key(choice)
        marker = f"evictd:{{{key}}}" if "{" not in key else f"evictd:{key}"
        keys = [key, marker if choice.random() < 0.7 else any_key(choice)]
        keys += [choice.choice(["tag:category:1", "evictd:{tag:category:1}", any_key(choice)]) for _ in range(choice.choice([0, 0, 1, 2, 50]))]
        if choice.random() < 0.1:
            choice.shuffle(keys)
        words = [token(choice), number(choice) if choice.random() < 0.3 else "60000", attacks.data(choice)]
        for option in ("AGE", "JITTER", "LEASE", "EARLY", "UNLESS", "NOTHING"):
            if choice.random() < 0.15:
                words += [option, number(choice)]
        count = len(keys) if choice.random() < 0.95 else choice.choice([0, 1, 3, 10_000])
        return ["FCALL", choice.choice(FUNCTIONS), count, *keys, *words[:choice.choice([0, 1, 2, 3, 3, 3, len(words)])]]
    return choice.choice([
        ["GET", any_key(choice)], ["SET", any_key(choice), "forged"], ["DEL", any_key(choice)], ["SADD", "tag:category:1", any_key(choice)],
        ["EVAL", "return redis.call('get', 'session:admin')", 0], ["EVALSHA", "0" * 40, 0], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"],
        ["SCAN", 0], ["FUNCTION", "FLUSH"], ["ACL", "LIST"], ["SCRIPT", "FLUSH"], ["RENAME", own_key(choice), "session:admin"],
        ["COPY", "session:admin", own_key(choice)], ["PUBLISH", "c", "x"], ["CLIENT", "KILL", "TYPE", "normal"], ["MONITOR"], ["DEBUG", "SLEEP", 1],
        ["SHUTDOWN"], ["SORT", own_key(choice), "BY", "session:*"], ["FCALL_RO", "evictd_get", 2, "session:admin", "evictd:{session:admin}"]])


def test_a_reader_reaches_nothing_but_its_own(postgres, cache, evictd, user, seed):
    choice = random.Random(seed)
    rounds = attacks.count(1_000)
    record = f"evictd:record:{evictd.slot}"
    cache.set("session:admin", "secret")
    refused = accepted = 0
    for made in range(1, rounds + 1):
        try:
            user.execute_command(*command(choice))
            accepted += 1
        except redis_client.ResponseError:
            refused += 1
        except UnicodeEncodeError:
            continue
        if made % 200 == 0 or made == rounds:
            assert cache.get("session:admin") == b"secret"
            assert cache.get(record) is not None and b"forged" not in cache.get(record)
            assert cache.get("evictd:purged") != b"forged"
            # What it wrote into markers of its keys (1 and 2 among them) holds nothing up; other keys are true.
            scenarios.cached(cache, postgres, "product:3", "product:4")
            postgres.execute("update products set price_cents = price_cents + 1 where id <= 4")
            oracle.wait_until_acknowledged(postgres, evictd.slot)
            assert cache.exists("product:3", "product:4") == 0
            assert evictd.is_ready(), evictd.http("/readyz")
    assert accepted > rounds / 50 and refused > rounds / 50, "too few of either to prove anything"
    assert evictd.metrics().sum("evictd_gaps_total") == 0
    assert evictd.metrics().sum("evictd_reconnects_total", peer="redis") == 0
    print(f"{rounds} attacks, {accepted} accepted")


# Each would be taken for what evictd knows of its key, were it read; and each takes long to read.
FORGED = {"huge": b"t %s 1" + b"1" * (64 << 20), "rows": b"t %s 1," + b"v1," * 2_600 + b"v2", "transactions": b"t %s 1," + b"1," * 4_000 + b"2",
          "fields": b"f 1 1800000000000" + b" d1" * 2_600, "snapshot": b"f 1:9000000000:" + b"2," * 4_000 + b"3 1800000000000",
          # No more than evictd may write; each of them takes a millisecond.
          "readable": b"t %s " + b"1d," * 63 + b"1d n1:9000000000:" + b"2," * 3_000 + b"2"}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("user", ["reader"], indirect=True)
def test_forged_markers_keep_redis_from_nobody(postgres, redis, cache, evictd, user, forged):
    """Nor do they keep a value. What is a long time is told by Redis itself: what it takes a script to read 64 MB."""
    text = FORGED[forged]
    epoch = re.search(rb"\nepoch (\S+)\n", cache.get(f"evictd:record:{evictd.slot}")).group(1)
    numbers = range(1001, 1002 if forged == "huge" else 1501)
    postgres.execute("insert into products select i, 'product-' || i, 'Product', 1, 1 from generate_series(1001, 1500) i")
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    for number in numbers:
        user.set(f"product:{number}", "v")
        user.set(f"evictd:{{product:{number}}}", text.replace(b"%s", epoch))
    admin = redis.client()
    admin.config_set("slowlog-log-slower-than", 0)
    admin.config_set("slowlog-max-len", 10_000)
    cache.set("large", b"x" * (64 << 20))
    admin.execute_command("EVAL", "return #redis.call('GET', KEYS[1])", 1, "large")
    long_time = max(entry["duration"] for entry in admin.slowlog_get(100) if entry["command"].startswith(b"EVAL "))
    admin.slowlog_reset()
    postgres.execute("update products set price_cents = price_cents + 1 where id between 1001 and 1500")
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    calls = [entry["duration"] for entry in admin.slowlog_get(10_000) if entry["command"].startswith(b"EVALSHA")]
    assert cache.exists(*[f"product:{number}" for number in numbers]) == 0
    assert max(len(cache.get(f"evictd:{{product:{number}}}")) for number in numbers) < 10_000
    assert calls and max(calls) < long_time / 4, (max(calls), long_time)
    assert evictd.is_ready(), evictd.http("/readyz")
