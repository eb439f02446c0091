"""Short forms of the races in race.py, which explains them and runs the long ones. What was seen is printed, and never
how fast."""

import functools

import pytest
import race

FILLS = 10_000


@functools.cache
def result(name):
    one = race.race(race.WAYS[name], FILLS, seconds=60)
    print(race.table({name: one}))
    # First, that the judge saw everything: what Redis stored, what it holds, and evictd's command for each commit (G1).
    if race.WAYS[name].refresh:  # evictd's own fills are heard, and not among those that readers know of
        assert one["heard"] > one["stored"] and one["refreshed"] > 0
    else:
        assert one["heard"] == one["stored"], "fills that the monitor did not hear"
    assert one["unheard"] == 0, "values that the monitor did not hear"
    if race.WAYS[name].fill == "checked":  # a plain delete names no transaction
        assert one["never_ordered"] == 0, "commits that evictd never invalidated"
    assert one["commits"] > race.LAST_ROWS and one["stored"] > 0
    return one


def test_without_settle_plain_readers_leave_stale_values():
    one = result("control")
    assert one["stale_left"] > 0, "the control must fail: nothing else here means anything otherwise"


def test_settle_takes_back_what_plain_readers_put_there():  # G4
    one = result("plain")
    # What a deleted row's readers put back lives until the settle; nothing else lives half as long.
    assert one["longest_stale_ms"] > race.SETTLE_MS / 2, "no old row was put back"
    assert one["stale_left"] == 0


CHECKED = {
    "checked": "readers that fill all the time",
    "leased": "readers that ask with evictd_get",
    "long-hold": "commits that stay invisible for longer than tombstone_ttl",
    "long-transaction": "a transaction that has written stays open all the time",
    "refreshed": "evictd fills what it has deleted, among readers that fill all the time",
    "standby": "readers on a standby that is behind, with its xmin",
}


@pytest.mark.parametrize("name", CHECKED)
def test_checked_fills_are_never_stale(name):  # G3
    one = result(name)
    assert one["stale_fills"] == 0
    assert one["stale_kept"] == 0
    assert one["stale_left"] == 0
    assert one["rejected"] > 0, "nothing was late: the race proves nothing"


def test_a_transaction_that_stays_open_does_not_stop_checked_fills():
    one = result("long-transaction")
    assert one["stored"] > one["rejected"]


def test_a_token_that_claims_too_much_is_found():
    one = result("broken-token")
    assert one["stale_fills"] > 0
