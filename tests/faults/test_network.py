"""The way to PostgreSQL is bad: silent, cut amid messages, one byte at a time, slow."""

import random

import pytest
import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.proxy import Proxy
from harness.waiting import eventually


@pytest.fixture
def proxy(postgres):
    made = Proxy(postgres.port)
    yield made
    made.stop()


@pytest.fixture
def evictd(make_evictd, postgres, proxy):
    return make_evictd(postgres_url=postgres.url(port=proxy.port)).start()


def test_a_silent_connection_is_noticed_and_replaced(postgres, redis, cache, evictd, proxy, seed):
    running = scenarios.under_load(postgres, redis, seed)
    proxy.tell("hole")
    # Nothing is closed and nothing arrives; only a watchdog can tell.
    eventually("evictd is no longer ready", lambda: not evictd.is_ready(), 60)
    proxy.tell("pass")
    proxy.tell("cut")  # what stood in the hole for that long has lost its peers
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    metrics = evictd.metrics()
    assert metrics.sum("evictd_reconnects_total", peer="postgres") >= 1
    assert metrics.sum("evictd_gaps_total") == 0


def test_cut_amid_messages(postgres, redis, cache, evictd, proxy, seed):
    choice = random.Random(seed)
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(40 if soak() else 5):
        target = running.writes + 20
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        proxy.tell(f"cut_after {choice.randint(1, 5000)}")
    proxy.tell("pass")
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_one_byte_at_a_time(postgres, redis, cache, evictd, proxy, seed):
    proxy.tell("slice 1")
    running = scenarios.under_load(postgres, redis, seed, writers=1, readers=1, writer_pause=0.02)
    target = running.writes + 50
    eventually("the writers write on", lambda: running.writes >= target, 60)
    proxy.tell("cut")
    eventually("it connects again, byte by byte", evictd.is_ready, 60)
    running.stop_writers()
    proxy.tell("pass")
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=20)


def test_slow_by_a_fifth_of_a_second(postgres, redis, cache, evictd, proxy, seed):
    proxy.tell("delay 200")
    running = scenarios.under_load(postgres, redis, seed, writer_pause=0.02)
    target = running.writes + 100
    eventually("the writers write on", lambda: running.writes >= target, 60)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=20)
