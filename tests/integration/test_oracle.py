"""Tests of the tests: without evictd the application's cache goes stale, and the oracle finds it."""

from harness import oracle, shop
from harness.waiting import eventually
import pytest


def test_an_unrepaired_cache_is_found_stale(postgres, redis, cache, seed):
    running = shop.Shop(postgres, redis.client, seed).start()
    eventually("some writes and reads", lambda: running.writes > 100 and running.hits > 1000)
    running.stop()
    with pytest.raises(AssertionError, match="cached .* the row says"):
        oracle.assert_true_cache(postgres, cache)


def test_a_touched_sentinel_is_found(postgres, cache):
    shop.fill(cache, postgres.connect().cursor(), "product:1")
    assert oracle.assert_true_cache(postgres, cache) == 1
    cache.delete("session:1")
    with pytest.raises(AssertionError, match="session:1: touched, although no rule names it"):
        oracle.assert_true_cache(postgres, cache)


def test_an_empty_cache_proves_nothing(postgres, cache):
    with pytest.raises(AssertionError, match="only 0 cached values"):
        oracle.assert_true_cache(postgres, cache)
