"""The nemesis for ctest: a short run of one seed; with --soak, seeds for a quarter of an hour, every named scenario, and the builds broken on
purpose, each of which has to fail a scenario."""

import os
import random
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import faults  # noqa: E402  pylint: disable=wrong-import-position
import named  # noqa: E402  pylint: disable=wrong-import-position
import nemesis  # noqa: E402  pylint: disable=wrong-import-position
import sources  # noqa: E402  pylint: disable=wrong-import-position
import world  # noqa: E402  pylint: disable=wrong-import-position
from harness.fixtures import soak  # noqa: E402  pylint: disable=wrong-import-position

SOAK = pytest.mark.skipif(not soak(), reason="long: tests/run.sh --soak")


def number(seed):
    return random.Random(seed).randrange(10**6)


def needs_kafka():
    """Skips where Kafka is not there already; EVICTD_REQUIRE_KAFKA=1 gets it, and allows no skip."""
    if os.environ.get("EVICTD_REQUIRE_KAFKA") == "1":
        sources.fetch_kafka()
    missing = sources.kafka_is_missing()
    if missing is not None and os.environ.get("EVICTD_REQUIRE_KAFKA") != "1":
        pytest.skip(missing)
    assert missing is None, missing


def held(schedule):
    if schedule["world"].get("source", "postgres") != "postgres":
        needs_kafka()
    failed = nemesis.play(schedule)
    if failed:
        nemesis.report(schedule, failed)
    assert not failed, failed


def test_a_seed_is_its_schedule():
    assert nemesis.draw(7) == nemesis.draw(7) != nemesis.draw(8)
    drawn = set()
    for source in ("postgres", "kafka"):
        for seed in range(300):
            for steps in nemesis.draw(seed, source=source)["rounds"]:
                drawn |= {step["fault"] for step in steps}
                assert all(faults.FAULTS[step["fault"]].source in ("any", source, "visibility") for step in steps)
                for one, two in zip(steps, steps[1:]):
                    shared = faults.FAULTS[one["fault"]].touches & faults.FAULTS[two["fault"]].touches
                    assert not (one["overlaps"] and shared), f"{one} and {two} touch {shared}"
    assert drawn == set(faults.FAULTS), "faults that are never drawn"


@pytest.mark.skipif(not os.environ.get("EVICTD_REQUIRE_SERVERS"), reason="where servers may be missing, this may")
def test_there_is_what_makes_clocks_jump():
    assert world.faketime_library(), "no libfaketime: the faults of the clock would be left out"


def test_a_failing_schedule_is_shrunk_to_what_makes_it_fail():
    schedule = nemesis.draw(3)
    names = [step["fault"] for _, step in nemesis.flat(schedule)]
    culprits = {names[1], names[-1]}
    shortest = nemesis.shrink(schedule, lambda tried: culprits <= {step["fault"] for _, step in nemesis.flat(tried)})
    assert {step["fault"] for _, step in nemesis.flat(shortest)} == culprits and len(nemesis.flat(shortest)) == len(culprits)


@pytest.mark.skipif(soak(), reason="the long run has more")
def test_a_short_run(seed):
    """One Redis, no changed clock: what starts quickly."""
    at = number(seed)
    schedule = next(found for found in map(lambda n: nemesis.draw(n, rounds=1, steps=3), range(at, at + 1000))
                    if found["world"]["redis"] == "single" and not found["world"]["faketime"])
    held(schedule)


@pytest.mark.skipif(soak() or os.environ.get("EVICTD_REQUIRE_KAFKA") != "1", reason="two Java processes: EVICTD_REQUIRE_KAFKA=1")
def test_a_short_run_from_kafka(seed):
    at = number(seed)
    held(next(found for found in map(lambda n: nemesis.draw(n, rounds=1, steps=3, source="kafka"), range(at, at + 1000)) if found["world"]["redis"] == "single"))


@SOAK
def test_a_long_run(seed):
    end = time.monotonic() + 900
    at = number(seed)
    while time.monotonic() < end:
        held(nemesis.draw(at, source=nemesis.source_of(at)))
        at += 1


@SOAK
@pytest.mark.parametrize("name", named.SCENARIOS)
def test_scenario(name):
    held(named.schedule(name))


@SOAK
@pytest.mark.parametrize("name", [name for name, (_, _, _, broken) in named.SCENARIOS.items() if broken])
def test_a_broken_build_is_caught(name):
    broken = named.SCENARIOS[name][3]
    if named.schedule(name)["world"].get("source", "postgres") != "postgres":
        needs_kafka()
    found = (nemesis.play(named.schedule(name), broken) for _ in range(3))
    assert any(failed and not failed.startswith(nemesis.OWN_FAULT) for failed in found), f"{broken} passes '{name}'"
