#!/usr/bin/env python3
"""Drives evictd, PostgreSQL, Redis and the ways between them through faults drawn from a seed, with readers of every kind, and
demands a cache that tells the truth: at rest, and whenever evictd says so. See README.md.

    nemesis.py                       one seed after the other, for a minute
    nemesis.py --minutes 60          for an hour; --keep-going: also after a failure
    nemesis.py --source kafka        Debezium and Kafka between PostgreSQL and evictd in every seed
    nemesis.py --seed 17             that one again
    nemesis.py --seed 17 --shrink    the shortest part of its schedule that still fails
    nemesis.py --schedule FILE       a schedule that a failure has printed
    nemesis.py --list                the named scenarios and the faults
    nemesis.py --scenario NAME       one of them; --program evictd_broken_ack: with another build
"""

import argparse
import json
import os
import random
import sys
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.dirname(HERE))

import faults  # noqa: E402
import kafka_faults  # noqa: E402,F401  pylint: disable=unused-import
from harness import process  # noqa: E402
from harness.daemon import binary, sanitizer  # noqa: E402
from sources import SOURCES, fetch_kafka, kafka_is_missing  # noqa: E402
from world import Failure, World, faketime_library  # noqa: E402

ROUNDS, STEPS = 3, 4
OWN_FAULT = "the nemesis itself"  # what fails so says nothing of evictd


def fits(fault, kind):
    if fault.source not in SOURCES[kind.get("source", "postgres")].faults:
        return False
    return fault.world in ("any", kind["redis"]) or (fault.world == "faketime" and kind["faketime"]) or (fault.world == "second" and kind.get("second"))


def source_of(seed):
    """One seed in six reads from Kafka, where its parts are there already."""
    return "kafka" if random.Random(f"nemesis source {seed}").random() < 1 / 6 and kafka_is_missing() is None else "postgres"


def draw(seed, rounds=ROUNDS, steps=STEPS, source="postgres"):
    """The whole schedule of a seed: {"world": ..., "rounds": [[step, ...], ...]}"""
    choice = random.Random(f"nemesis {seed}")
    kind = {"redis": choice.choice(["single", "single", "single", "sentinel", "cluster"]), "faketime": choice.random() < 0.2,
            "second": choice.choice([None, None, "beside", "behind"])}
    if source == "kafka":
        # No changed clock: librdkafka waits by the time of day. Few clusters: beside two Java processes their nodes are soon too late for one another.
        kind.update(redis=choice.choice([*["single"] * 5, "sentinel", "sentinel", "cluster"]),
                    source=choice.choice(["kafka", "kafka", "kafka alone"]), members=choice.choice([1, 2, 2]), faketime=False)
    possible = [fault for fault in faults.FAULTS.values() if fits(fault, kind)]
    weights = [fault.weight for fault in possible]
    schedule = {"seed": seed, "world": kind, "rounds": []}
    for _ in range(rounds):
        these = []
        taken = set()
        for _ in range(steps):
            fault = choice.choices(possible, weights)[0]
            with_next = choice.random() < 0.4
            step = {"fault": fault.name, "with": fault.draw(choice), "hold": round(choice.uniform(*fault.hold), 2),
                    "after": round(choice.uniform(0, 1.5), 2), "overlaps": with_next}
            # Together where they do not touch the same thing.
            if taken & fault.touches:
                these[-1]["overlaps"] = False
                taken = set()
            taken = taken | fault.touches if with_next else set()
            these.append(step)
        these[-1]["overlaps"] = False
        schedule["rounds"].append(these)
    return schedule


def describe(step):
    more = ", ".join(f"{name} {value}" for name, value in step["with"].items())
    return f"{step['fault']}{' (' + more + ')' if more else ''} for {step['hold']} s{', together with' if step['overlaps'] else ''}"


def wait(world, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.check()
        time.sleep(0.05)


def play_round(world, steps):
    open_faults = []
    for step in steps:
        world.say(describe(step))
        running = faults.FAULTS[step["fault"]].act(world, **step["with"])
        next(running, None)
        open_faults.append(running)
        wait(world, step["hold"])
        if not step["overlaps"]:
            while open_faults:
                for _ in open_faults.pop():
                    pass
        wait(world, step["after"])


def play(schedule, program="evictd", quiet=False, keep=False):
    """-> None, or why it failed. The last folder is kept with `keep`."""
    kind = schedule["world"]
    without = None
    if faketime_library() is None:
        without = "no libfaketime (apt-get install libfaketime)"
    elif sanitizer(binary(program)):
        without = "a sanitizer's library has to come first"
    if kind["faketime"] and without:
        print(f"    {without}: no clock jumps", flush=True)
        kind = dict(kind, faketime=False)
        schedule = of_flat(schedule, [(at, step) for at, step in flat(schedule) if faults.FAULTS[step["fault"]].world != "faketime"])
    world = None
    failed = None
    began = time.monotonic()
    try:
        if kind.get("source", "postgres") != "postgres":
            fetch_kafka()  # nothing to do where it is there already
        world = World(random.Random(f"world {schedule['seed']}"), layout=kind["redis"], second=kind.get("second"), faketime=kind["faketime"],
                      source=kind.get("source", "postgres"), members=kind.get("members", 1), program=program, quiet=quiet)
        world.start()
        wait(world, 1)
        for steps in schedule["rounds"]:
            if steps:
                play_round(world, steps)
                world.rest()
    except Failure as error:
        failed = str(error)
    except Exception as error:  # pylint: disable=broad-except
        failed = f"{OWN_FAULT}: {type(error).__name__}: {error}\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
    finally:
        if world is not None:
            world.close()
            if not quiet:
                print(f"    {time.monotonic() - began:.0f} s, {world.writes} writes, {world.reads} reads, {world.looks} looks, {world.green_looks} "
                      f"while green, {world.checks} rests, troubles {world.troubles}", flush=True)
            if failed and keep:
                print(f"    kept: {world.folder}", flush=True)
            else:
                world.remove()
        process.end_all()
    return failed


def flat(schedule):
    return [(at, step) for at, steps in enumerate(schedule["rounds"]) for step in steps]


def of_flat(schedule, steps):
    rounds = [[dict(step) for at, step in steps if at == number] for number in range(len(schedule["rounds"]))]
    for these in rounds:
        if these:
            these[-1]["overlaps"] = False
        taken = set()
        for one, two in zip(these, these[1:]):
            taken |= faults.FAULTS[one["fault"]].touches
            if taken & faults.FAULTS[two["fault"]].touches:
                one["overlaps"] = False
            if not one["overlaps"]:
                taken = set()
    return dict(schedule, rounds=[these for these in rounds if these])


def shrink(schedule, fails):
    """Leaves steps out as long as `fails(schedule)` is still true of what is left. -> the shortest schedule found"""
    steps = flat(schedule)
    size = max(len(steps) // 2, 1)
    while True:
        at, shorter = 0, False
        while at < len(steps) and len(steps) > 1:
            candidate = steps[:at] + steps[at + size:]
            if candidate and fails(of_flat(schedule, candidate)):
                steps, shorter = candidate, True
                print(f"  fails with {len(steps)} steps", flush=True)
            else:
                at += size
        if size == 1 and not shorter:
            return of_flat(schedule, steps)
        size = max(size // 2, 1)


def fails_within(tries, program):
    """A fault of timing need not come at the first try."""
    def fails(schedule):
        found = (play(schedule, program, quiet=True) for _ in range(tries))
        return any(failed is not None and not failed.startswith(OWN_FAULT) for failed in found)
    return fails


def report(schedule, failed):
    print(f"FAILED: seed {schedule['seed']}\n{failed}\nthe schedule, for --schedule: {json.dumps(schedule)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--source", choices=["postgres", "kafka"], help="what evictd reads; else drawn from the seed: kafka where it is there already")
    parser.add_argument("--schedule")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the folder of a failure")
    parser.add_argument("--scenario")
    parser.add_argument("--program", default="evictd")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or options.scenario:
        import named  # pylint: disable=import-outside-toplevel

        if options.list:
            print(named.listing())
            print("\nfaults\n" + "\n".join(f"  {name}" for name in faults.FAULTS))
            return 0
        failed = named.play(options.scenario, options.program, keep=options.keep)
        print(f"FAILED: {options.scenario}: {failed}" if failed else f"{options.scenario}: held")
        return (2 if failed.startswith(OWN_FAULT) else 1) if failed else 0
    end = time.monotonic() + options.minutes * 60
    first = options.seed if options.seed is not None else random.randrange(10**6)
    number, ran, bad = first, 0, 0
    while True:
        if options.schedule:
            with open(options.schedule, encoding="utf-8") as file:
                schedule = json.load(file)
        else:
            schedule = draw(number, options.rounds, options.steps, options.source or source_of(number))
        print(f"seed {schedule['seed']}, {schedule['world']}: {sum(map(len, schedule['rounds']))} faults", flush=True)
        failed = play(schedule, options.program, keep=options.keep)
        ran += 1
        if failed:
            bad += 1
            report(schedule, failed)
            if options.shrink:
                shortest = shrink(schedule, fails_within(options.tries, options.program))
                print("\n".join(f"    {describe(step)}" for _, step in flat(shortest)), json.dumps(shortest), sep="\n", flush=True)
            if not options.keep_going:
                break
        number += 1
        if options.seed is not None or options.schedule or time.monotonic() > end:
            break
    print(f"{ran} seeds, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
