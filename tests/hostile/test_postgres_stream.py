"""The replication stream says what the server did not: one bit is flipped on the way. Rows' own texts are left alone:
nothing but TLS protects those."""

import os
import random
import signal
import threading

import pytest
import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.waiting import eventually, stays
from hostile import attacks

KEEPALIVE, DATA = ord("k"), ord("w")
HEADER = 5  # type and length of the frame


def flip(frame, byte, bit):
    frame[byte] ^= 1 << bit
    return frame


@pytest.mark.parametrize("bit", [53, 40, 26])
def test_a_keepalive_from_beyond_the_servers_end_is_not_acknowledged(postgres, cache, middle, evictd, bit):
    flipped = []

    def tamper(frame):
        value = int.from_bytes(frame[HEADER + 1:HEADER + 9], "big")
        if frame[HEADER] == KEEPALIVE and not value >> bit & 1 and len(flipped) < 20:
            flipped.append(value)
            return flip(frame, HEADER + 8 - bit // 8, bit % 8)
        return frame

    postgres.execute("create table elsewhere (id int)")
    middle.tamper = tamper

    def refused():
        postgres.execute("insert into elsewhere values (1)")
        return "not believed" in evictd.log_text()

    eventually("the position is refused", refused, 40, every=0.2)
    assert flipped
    assert oracle.is_within_the_servers_end(postgres)
    middle.tamper = bytes
    evictd.wait_until_ready()
    for product in range(1, 11):
        scenarios.cached(cache, postgres, f"product:{product}")
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
    scenarios.gone(cache, *[f"product:{product}" for product in range(1, 11)])
    assert oracle.is_within_the_servers_end(postgres)
    assert evictd.metrics().sum("evictd_gaps_total") == 0


def test_what_the_stream_leaves_out_is_a_gap(postgres, cache, middle, make_evictd):  # G6
    """Whole transactions are taken out, and the server's keepalives say that it has passed them."""
    evictd = make_evictd(postgres_url=f"{postgres.url(port=middle.port)}?sslmode=disable", postgres_more="heartbeat: 1s").start()
    keys = [f"product:{product}" for product in range(1, 11)]
    scenarios.cached(cache, postgres, *keys)
    middle.tamper = lambda frame: b"" if frame[HEADER] == DATA else bytes(frame)
    postgres.execute("update products set price_cents = price_cents + 1 where id <= 10")
    scenarios.gone(cache, *keys)
    assert evictd.metrics().sum("evictd_gaps_total", reason="stream_incomplete") > 0
    eventually("readiness says why", lambda: "the stream leaves out what was committed" in evictd.http("/readyz")[1])
    middle.tamper = bytes
    evictd.wait_until_ready()
    seen = evictd.metrics().sum("evictd_gaps_total")
    ages = []

    def came_back(times):
        ages.append(evictd.metrics().sum("evictd_heartbeat_age_seconds"))
        return sum(later < earlier for earlier, later in zip(ages, ages[1:])) >= times

    eventually("the messages come back again", lambda: came_back(3))
    assert evictd.metrics().sum("evictd_gaps_total") == seen


@pytest.mark.parametrize("bit", [11, 25])
def test_a_transaction_that_the_server_never_began_is_not_waited_for(postgres, cache, middle, evictd, bit):
    flipped = []

    def tamper(frame):
        at = HEADER + 25
        if frame[HEADER] == DATA and frame[at:at + 1] == b"B" and not flipped and not frame[at + 20 - bit // 8] >> bit % 8 & 1:
            flipped.append(True)
            return flip(frame, at + 20 - bit // 8, bit % 8)
        return frame

    scenarios.cached(cache, postgres, "product:1", "product:2")
    middle.tamper = tamper
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the transaction is refused", lambda: "which the server has not begun" in evictd.log_text()
               or "cannot be: the server is at" in evictd.log_text(), 20)
    assert flipped
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=1)


# Bytes of a frame that say where, when, which and how much: headers, begins and commits whole, and of rows what kind
# they are of which table.
def bytes_to_flip(frame):
    if frame[HEADER] == KEEPALIVE:
        return range(HEADER, len(frame))
    payload = HEADER + 25
    header = [HEADER, *range(HEADER + 1, HEADER + 25)]
    if frame[payload:payload + 1] == b"B":
        return [*header, *range(payload, len(frame))]
    if frame[payload:payload + 1] == b"C":
        return [*header, *range(payload, len(frame))]
    return [*header, *range(payload, min(payload + 6, len(frame)))]


def test_a_bit_flipped_anywhere_but_in_the_rows_leaves_no_stale_key(postgres, redis, cache, middle, evictd, seed):
    choice = random.Random(seed)
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(attacks.count(300 if soak() else 8)):
        armed = [choice.randint(1, 40)]

        def tamper(frame, armed=armed):
            armed[0] -= 1
            if armed[0] != 0:
                return frame
            return flip(frame, choice.choice(list(bytes_to_flip(frame))), choice.randrange(8))

        middle.tamper = tamper
        eventually("a bit was flipped", lambda armed=armed: armed[0] <= 0, 60)
        target = running.writes + 20
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        assert oracle.is_within_the_servers_end(postgres)
    middle.tamper = bytes
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=20)
    assert oracle.is_within_the_servers_end(postgres)


@pytest.mark.parametrize("who", ["evictd snapshots", "evictd catalogue"])
def test_a_frozen_ordinary_connection_shows_and_is_replaced(postgres, cache, middle, evictd, who):
    scenarios.cached(cache, postgres, "product:1", "product:2", "product:3")
    middle.pass_on.clear()
    middle.freeze = who
    postgres.execute("update products set price_cents = 7 where id = 1")
    eventually("evictd is no longer ready", lambda: not evictd.is_ready(), 60)
    middle.freeze = None  # of those that come; the one that hangs stays so
    evictd.wait_until_ready(60)
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=2)
    stays("it is ready", evictd.is_ready, 2)


def test_a_frozen_stream_is_replaced_before_the_server_gives_it_up(postgres, cache, middle, evictd):
    """Its slot is held by a process of the server that still believes in us: ours to end, not another daemon's."""
    scenarios.cached(cache, postgres, "product:1", "product:2")
    middle.pass_on.clear()
    middle.freeze = "evictd"
    eventually("evictd is no longer ready", lambda: not evictd.is_ready(), 40)
    middle.freeze = None
    postgres.execute("update products set price_cents = 7 where id = 1")
    assert postgres.value("show wal_sender_timeout") == "1min"
    evictd.wait_until_ready(35)
    assert "is held by our own earlier session" in evictd.log_text()
    scenarios.gone(cache, "product:1")
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=1)


def set_ahead(frame, microseconds):
    """The same frame from a server whose clock is ahead."""
    dates = {KEEPALIVE: [HEADER + 9], DATA: [HEADER + 17]}[frame[HEADER]]
    payload = HEADER + 25
    if frame[HEADER] == DATA and frame[payload:payload + 1] == b"B":
        dates.append(payload + 9)
    if frame[HEADER] == DATA and frame[payload:payload + 1] == b"C":
        dates.append(payload + 18)
    for at in dates:
        frame[at:at + 8] = (int.from_bytes(frame[at:at + 8], "big") + microseconds).to_bytes(8, "big")
    return frame


def test_the_backlog_of_a_server_whose_clock_is_ahead_is_no_lag_of_0(postgres, cache, middle, make_evictd):
    """By the clocks alone, whatever such a server committed long ago was committed just now."""
    hour = 3_600_000_000
    middle.tamper = lambda frame: set_ahead(frame, hour)
    evictd = make_evictd(postgres_url=f"{postgres.url(port=middle.port)}?sslmode=disable", postgres_more="heartbeat: 1h").start()
    evictd.stop()
    for _ in range(20):
        postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    stays("evictd is away", lambda: not evictd.is_running(), 3)
    goes_on, commits = threading.Event(), []

    def tamper(frame):
        if frame[HEADER] == DATA and frame[HEADER + 25:HEADER + 26] == b"C":
            commits.append(True)
        if len(commits) > 10:
            goes_on.wait(60)
        return set_ahead(frame, hour)

    middle.tamper = tamper
    evictd.start(ready=False)
    eventually("half of the backlog is read", lambda: len(commits) > 10)
    try:
        eventually("what was read is applied", lambda: evictd.metrics().sum("evictd_last_applied_commit_timestamp_seconds") > 0)
        stays("the lag is not 0", lambda: evictd.metrics().sum("evictd_lag_seconds") > 0, 2)
    finally:
        goes_on.set()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)
    eventually("it is current", lambda: evictd.metrics().sum("evictd_lag_seconds") == 0)


def test_lag_goes_by_the_servers_clock_after_it_was_set_back(postgres, redis, cache, middle, make_evictd):
    """It was an hour ahead and is set right on the open connection: what is committed from then on is not an hour old."""
    ahead, is_set_back = [3_600_000_000], threading.Event()

    def tamper(frame):
        begins = frame[HEADER] == DATA and frame[HEADER + 25:HEADER + 26] == b"B"
        if begins and is_set_back.is_set():
            ahead[0] = 0
        return set_ahead(frame, ahead[0])

    middle.tamper = tamper
    evictd = make_evictd(postgres_url=f"{postgres.url(port=middle.port)}?sslmode=disable", postgres_more="heartbeat: 1s").start()
    is_set_back.set()
    eventually("a message came back by the new clock", lambda: ahead[0] == 0 and evictd.metrics().sum("evictd_heartbeat_age_seconds") < 0.5)
    os.kill(redis.process.pid, signal.SIGSTOP)
    try:
        postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
        eventually("the change waits for the cache", lambda: evictd.metrics().sum("evictd_lag_seconds") > 0.5)
        assert evictd.metrics().sum("evictd_lag_seconds") < 600
    finally:
        os.kill(redis.process.pid, signal.SIGCONT)
    oracle.converge(postgres, evictd)
    assert evictd.metrics().sum("evictd_reconnects_total", peer="postgres") == 0
