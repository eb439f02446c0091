"""Waiting for a condition with a deadline: the only way a test here may let time pass."""

import time

import redis


class DeadlinePassed(AssertionError):
    """A condition did not become true in time."""


def eventually(what, condition, seconds=30.0, every=0.02):
    """Calls `condition` until it returns something true, and returns that. An AssertionError inside, or a Redis that
    closes the connection it is asked on (as a master does that becomes a replica), counts as "not yet", and is the
    reason given when the deadline passes."""
    deadline = time.monotonic() + seconds
    reason = ""
    while True:
        try:
            value = condition()
            if value:
                return value
            reason = ""
        except (AssertionError, redis.ConnectionError) as error:
            reason = f": {error}"
        if time.monotonic() >= deadline:
            raise DeadlinePassed(f"not within {seconds:g} s: {what}{reason}")
        time.sleep(every)


def stays(what, condition, seconds):
    """Holds that `condition` is true now and for `seconds`: for things that must NOT happen."""
    deadline = time.monotonic() + seconds
    while True:
        assert condition(), f"did not stay so for {seconds:g} s: {what}"
        if time.monotonic() >= deadline:
            return
        time.sleep(0.02)
