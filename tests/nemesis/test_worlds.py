"""Drawn tables, rules and rows for ctest: one seed, or with --soak a quarter of an hour of them; and what the drawing rests on."""

import collections
import os
import random
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import drawn  # noqa: E402  pylint: disable=wrong-import-position
import worlds  # noqa: E402  pylint: disable=wrong-import-position
from harness.fixtures import soak  # noqa: E402  pylint: disable=wrong-import-position

FIRST = 10**6  # seeds of their own: not those that are run by hand


def held(seconds, seed):
    servers, end = worlds.Servers(), time.monotonic() + seconds
    at = FIRST + random.Random(seed).randrange(10**6)
    try:
        while True:
            failed = worlds.run(at, servers, "evictd", collections.Counter(), rounds=3)
            assert not failed, f"worlds.py --seed {at} --rounds 3: {failed}"
            at += 1
            if time.monotonic() > end:
                return
    finally:
        servers.stop()


def test_a_seed_is_its_drawing():
    def rules(seed):
        drawing = drawn.Drawing(random.Random(seed), lambda kind, value: value)
        return drawn.yaml_of(drawing.rules, drawing.defaults)

    assert rules(7) == rules(7) != rules(8)
    every = "".join(rules(seed) for seed in range(300))
    missing = [name for name in ("keys", "tags", "bump", "purge", "where", "when_changed", "ignore_changed", "crosses", "via", "j2", "version", "refresh", "audit",
                                 "lazy", "stale", "settle", "collapse_after", "fan_out", "immutable", "caches", "not", "lte", "defaults") if name not in every]
    assert not missing, f"never drawn: {missing}"


def test_names_are_those_of_the_document():
    def names(kind, raw, path=(), filters=()):
        return drawn.Template("k:", [drawn.Hole(drawn.Column("c", kind), path, filters)]).names([raw])

    assert names("text", None) == [] and names("text", None, filters=["default('none')"]) == ["k:none"]
    assert names("text", "Straße", filters=["upper"]) == ["k:STRAßE"] and names("text", "a b", filters=["urlencode"]) == ["k:a%20b"]
    assert names("date", "2024-02-03", filters=["date('%Y/%m')"]) == ["k:2024/02"] and names("date", "infinity", filters=["date('%Y')"]) == []
    assert names("jsonb", '{"n": 1.50}', ["n"]) == ["k:1.50"] and names("jsonb", '{"a": [1, {"b": "x"}]}') == ['k:{"a":[1,{"b":"x"}]}']
    assert names("jsonb", '{"l": [1, null, [2]]}', ["l", "*"]) == ["k:1", "k:[2]"] and names("jsonb", "{}", ["l", "*"], ["default('none')"]) == []


@pytest.mark.skipif(soak(), reason="the long run has more")
def test_a_short_run(seed):
    held(0, seed)


@pytest.mark.skipif(not soak(), reason="long: tests/run.sh --soak")
def test_a_long_run(seed):
    held(900, seed)
