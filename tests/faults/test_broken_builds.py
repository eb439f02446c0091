"""Tests of the tests: builds in which one guarantee is broken on purpose must fail the scenario that holds
it, and the real build must pass the same scenario. See README.md."""

import pytest
import scenarios
from harness.proxy import Proxy

STALE = "the cache does not tell the truth"


@pytest.fixture
def proxy(redis):
    made = Proxy(redis.port)
    yield made
    made.stop()


@pytest.fixture
def through_proxy(make_evictd, redis, proxy):
    return lambda program: make_evictd(program=program, redis_url=redis.url(port=proxy.port))


def test_acknowledging_after_redis_loses_nothing(postgres, cache, through_proxy, proxy):
    scenarios.killed_right_after_an_acknowledgement(postgres, cache, through_proxy("evictd"), proxy)


def test_acknowledging_before_redis_is_caught(postgres, cache, through_proxy, proxy):
    with pytest.raises(AssertionError, match="acknowledged, and [0-9]+ of 60000 keys are still cached"):
        scenarios.killed_right_after_an_acknowledgement(postgres, cache, through_proxy("evictd_broken_ack"), proxy)


def test_settling_mends_what_readers_put_back(postgres, cache, make_evictd):
    scenarios.refilled_before_the_commit_is_visible(postgres, cache, make_evictd())


def test_not_settling_is_caught(postgres, cache, make_evictd):
    with pytest.raises(AssertionError, match=STALE):
        scenarios.refilled_before_the_commit_is_visible(postgres, cache, make_evictd(program="evictd_broken_settle"))


def test_commit_order_is_not_log_order(postgres, cache, make_evictd):
    scenarios.rows_older_in_the_log_than_an_earlier_commit(postgres, cache, make_evictd())


def test_deduplicating_by_row_position_is_caught(postgres, cache, make_evictd):
    with pytest.raises(AssertionError, match=STALE):
        scenarios.rows_older_in_the_log_than_an_earlier_commit(
            postgres, cache, make_evictd(program="evictd_broken_dedup"))
