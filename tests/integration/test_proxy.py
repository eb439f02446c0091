"""Tests of the tests: the proxy does what the fault scenarios believe it does."""

import redis as redis_client
from harness.proxy import Proxy
from harness.waiting import eventually
import pytest


@pytest.fixture
def proxy(redis):
    made = Proxy(redis.port)
    yield made
    made.stop()


def client(proxy, timeout=0.5):
    return redis_client.Redis(port=proxy.port, socket_timeout=timeout, single_connection_client=True)


def test_forwards(proxy):
    assert client(proxy).ping()


def test_hole_forwards_nothing_and_closes_nothing(proxy):
    one = client(proxy)
    assert one.ping()
    proxy.tell("hole")
    # The command travels on its own pipe: wait for it to take effect.
    with pytest.raises(redis_client.TimeoutError):
        eventually("a timeout", lambda: not client(proxy).ping(), 10)


def test_refuse_resets_old_and_new_connections(proxy):
    one = client(proxy)
    assert one.ping()
    proxy.tell("refuse")

    def refused():
        try:
            client(proxy).ping()
            return False
        except redis_client.ConnectionError:
            return True

    eventually("new connections are reset", refused, 10)
    proxy.tell("pass")
    eventually("connections pass again", lambda: not refused(), 10)


def test_slices_change_nothing_but_the_pieces(proxy):
    proxy.tell("slice 1")
    one = client(proxy, 10)
    one.set("k", "v" * 1000)
    assert one.get("k") == b"v" * 1000


def test_cut_after_cuts_amid_an_answer(proxy, redis):
    redis.client().set("k", "v" * 1000)
    one = redis_client.Redis(port=proxy.port, socket_timeout=5, single_connection_client=True, retry_on_error=[])
    assert one.ping()
    proxy.tell("cut_after 100")

    def was_cut():
        try:
            one.get("k")
            return False
        except redis_client.ConnectionError:
            return True

    eventually("the answer was cut", was_cut, 10)
