"""One read through the cache, as steps that somebody else carries out: a generator yields what is to be done and is sent what
came of it. So blocking and asynchronous callers share every decision. No clock but time.monotonic(), no connection.

The order is what makes it safe: the lease, the token, the function, then the fill, with AGE counted from the token."""

import collections
import json
import logging
import threading
import time
from typing import Any, NamedTuple

from .names import marker_of, tag_marker, tag_set

log = logging.getLogger("evictd_reader")

BUSY_PAUSE_S = 0.01
TAGS_MAX = 500            # of one value: each costs Redis a few microseconds at every fill
LOOKUPS_MAX = 4           # of one read of a lazy value whose tags change while it is looked at
REMEMBERED_MAX = 10_000   # keys whose lazy tags a process remembers
WARNING_PAUSE_S = 60.0
FOREVER_MS = 10 * 365 * 24 * 3600 * 1000


class WrongCall(Exception):
    """Redis refused a call as one that could never be right: a mistake in the program or its settings, such as a client that
    puts a prefix before every key, and so before a marker."""


class Command(NamedTuple):
    """A call of one of evictd's functions."""
    function: str
    keys: list
    arguments: list

    def words(self):
        return ["FCALL", self.function, len(self.keys), *self.keys, *self.arguments]


# Steps.
class Calls(NamedTuple):
    """Answered by a list: the reply of each command, or the exception that it was."""
    commands: list


class Sleep(NamedTuple):
    seconds: float


class MayHaveWritten(NamedTuple):
    """Answered by whether the session is in a transaction that may have written, as far as the client knows by itself."""


class Token(NamedTuple):
    """Answered by the text of a token, or None."""


class Make(NamedTuple):
    """The function. Answered by its value and the tags that it told."""


class StillReading(NamedTuple):
    """Answered by whether the function's transaction has written nothing."""


class Plan(NamedTuple):
    """One key, and how it is kept."""
    key: bytes
    tags: list
    ttl_ms: int
    codec: Any
    lazy: bool = False
    lease_ms: int = 2000
    wait_s: float = 1.0
    jitter: int = 0
    early: float = 0
    serve_stale: bool = True
    is_cluster: bool = False


MISSING = object()


class Found(NamedTuple):
    """A value to serve; or whether the caller's own is to be filled; or, without leases, whether one is to be had."""
    value: Any = MISSING
    may_fill: bool = False
    wants_lease: bool = False


class Memory:
    """What a process remembers of its cache: the tags of lazy values, counts, and when it last warned. Any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._tags = collections.OrderedDict()
        self._warned = {}
        self.counts = collections.Counter()

    def tags_of(self, key):
        with self._lock:
            return self._tags.get(key)

    def remember(self, key, tags):
        with self._lock:
            self._tags[key] = tags
            self._tags.move_to_end(key)
            if len(self._tags) > REMEMBERED_MAX:
                self._tags.popitem(last=False)

    def count(self, what):
        with self._lock:
            self.counts[what] += 1

    def warn(self, what, text):
        """Counted, and written once a minute for each kind."""
        self.count(what)
        now = time.monotonic()
        with self._lock:
            if now - self._warned.get(what, -WARNING_PAUSE_S) < WARNING_PAUSE_S:
                return
            self._warned[what] = now
        log.warning("%s: %s", what.replace("_", " "), text)


def _answered(reply, memory):
    """The reply, or None when there is none: then the database answers, and nothing is cached this time."""
    if not isinstance(reply, Exception):
        return reply
    text = str(reply)
    if text.startswith(("expected ", "ERR expected ")):
        raise WrongCall(text) from reply
    memory.warn("redis_errors", f"read from the database, not cached: {type(reply).__name__}: {text}")
    return None


# A lazy value begins with a line of its tags, so that whoever reads it knows what to ask for.
def _packed(plan, tags, payload):
    return json.dumps([tag.decode("utf-8", "surrogateescape") for tag in tags]).encode() + b"\n" + payload if plan.lazy else payload


def _unpacked(plan, stored):
    """(tags, payload); tags is None for what is not ours."""
    if not plan.lazy:
        return plan.tags, stored
    line, _, payload = stored.partition(b"\n")
    try:
        return [tag.encode("utf-8", "surrogateescape") for tag in json.loads(line)], payload
    except (ValueError, AttributeError, TypeError):
        return None, payload


def _names(plan, tags):
    names = [plan.key, marker_of(plan.key)]
    return names if plan.is_cluster else names + [tag_marker(tag) if plan.lazy else tag_set(tag) for tag in tags]


def _get(plan, tags, memory):
    options = ["LEASE", plan.lease_ms] if plan.lease_ms else []
    if plan.early and plan.lease_ms:
        options += ["EARLY", plan.early]
    if plan.is_cluster and plan.lazy:
        options += ["DATED", 1]
    reply, = yield Calls([Command("evictd_get", _names(plan, tags), options)])
    return _answered(reply, memory)


def _all_seen(tags, version, memory):
    """On a cluster, where a tag is in another slot than the key."""
    if not tags:
        return True
    if version in (None, b"-"):
        return False
    replies = yield Calls([Command("evictd_seen", [tag_marker(tag)], [version]) for tag in tags])
    return all(_answered(reply, memory) == 1 for reply in replies)


def look_up(plan, memory):
    """-> Found."""
    asked = (memory.tags_of(plan.key) if plan.lazy else None) or plan.tags
    give_up = time.monotonic() + plan.wait_s
    lookups = 0
    while True:
        reply = yield from _get(plan, asked, memory)
        if reply is None:
            return Found()
        state, stored, lease, version = reply
        is_stale = state == b"stale"
        if not plan.lease_ms and (is_stale or state == b"miss"):
            return Found(wants_lease=True)
        if state == b"busy" or (is_stale and not lease and not plan.serve_stale):
            if time.monotonic() >= give_up:
                memory.count("busy")
                return Found()
            yield Sleep(BUSY_PAUSE_S)
            continue
        if stored is None or lease:
            memory.count("stale" if is_stale else "misses")
            return Found(may_fill=bool(lease))
        tags, payload = _unpacked(plan, stored)
        if plan.lazy and tags is not None:
            if plan.is_cluster:
                if not (yield from _all_seen(tags, version, memory)):
                    memory.count("stale")
                    return Found(may_fill=True)
            elif set(tags) != set(asked):
                # It is to be asked for the tags that it has: no others make it stale, and none may be left out.
                lookups += 1
                if lookups == LOOKUPS_MAX:
                    return Found()
                asked = tags
                continue
            memory.remember(plan.key, tags)
        try:
            if tags is None:
                raise ValueError("it does not begin with the line of its tags")
            value = plan.codec.loads(payload)
        except Exception as error:  # pylint: disable=broad-except  # of another version of the program, perhaps
            memory.warn("unreadable_values", f"{plan.key!r} is made anew: {type(error).__name__}: {error}")
            return Found(may_fill=True)
        memory.count("stale" if is_stale else "hits")
        return Found(value)


def fill(plan, memory, token, began, payload, tags):
    """-> whether it was stored. `began`: when the token was asked for, by time.monotonic()."""
    if len(tags) > TAGS_MAX:
        memory.warn("too_many_tags", f"{plan.key!r} is not cached: it has {len(tags)} tags, expected at most {TAGS_MAX}")
        return False
    if plan.is_cluster and tags:
        names = [[tag_marker(tag)] if plan.lazy else [tag_set(tag), tag_marker(tag)] for tag in tags]
        replies = yield Calls([Command("evictd_join", each, [plan.key, plan.ttl_ms, token]) for each in names])
        if not all([_answered(reply, memory) == 1 for reply in replies]):  # pylint: disable=use-a-generator
            memory.count("refused")
            return False
    options = ["AGE", int((time.monotonic() - began) * 1000)]
    if plan.jitter:
        options += ["JITTER", plan.jitter]
    reply, = yield Calls([Command("evictd_fill", _names(plan, tags), [token, plan.ttl_ms, _packed(plan, tags, payload), *options])])
    reply = _answered(reply, memory)
    if reply == 1:
        memory.count("fills")
        if plan.lazy:
            memory.remember(plan.key, tags)
    elif reply is not None:
        memory.count("refused")
    return reply == 1


def prepare(plan, memory):
    """What comes before a function is called -> (Found, when the token was asked for, the token or None)."""
    began = time.monotonic()
    token = None
    if (yield MayHaveWritten()):
        # There may be no token, and then no fill: a lease would be held for nothing, and others would wait for its end.
        found = yield from look_up(plan._replace(lease_ms=0), memory)
        if found.wants_lease:
            began = time.monotonic()
            token = yield Token()
            found = (yield from look_up(plan, memory)) if token is not None else Found()
    else:
        found = yield from look_up(plan, memory)
        if found.may_fill:
            began = time.monotonic()
            token = yield Token()
    return found, began, token if found.may_fill else None


def read(plan, memory):
    """-> the value: from the cache, or from the function."""
    found, began, token = yield from prepare(plan, memory)
    if found.value is not MISSING:
        return found.value
    value, told = yield Make()
    payload = plan.codec.dumps(value)
    if token is not None:
        yield from fill_if_read(plan, memory, token, began, payload, list(dict.fromkeys([*plan.tags, *told])))
    return plan.codec.loads(payload)


def fill_if_read(plan, memory, token, began, payload, tags):
    """As fill(), unless the session's transaction has written since: what it sees may be rolled back."""
    if (yield StillReading()):
        yield from fill(plan, memory, token, began, payload, tags)
    else:
        memory.count("not_filled_after_a_write")
