"""The tests that speak to servers, against other versions of them than Debian's.

    tests/matrix/matrix.py [--all] [NAME...]

A short part of them against the newest of each kind, or with --all (tests/run.sh --matrix) all of them against each
version. Ends with a table; the exit code is that of ctest: 0, 1, or 77 when the servers cannot be fetched.
"""

import glob
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
BINARIES = os.environ.get("EVICTD_BINARY_DIR", os.path.join(os.path.dirname(TESTS), "build/dev"))
SERVERS = os.path.join(BINARIES, "matrix")
SKIPPED = 77

NEWEST = ("postgresql-18", "redis-8.2", "valkey-9.1")
SHORT = {
    # From 16 on a standby would be decoded: that it is not read from shows on a newer server alone.
    "postgresql": ["tests/integration/test_reader_modes.py", "tests/integration/test_standbys.py"],
    "redis": ["tests/integration/test_reader_modes.py"],
}
# What PostgreSQL has from 17 on.
FROM_17 = ["tests/matrix/test_failover_slot.py"]
FROM_18 = ["tests/matrix/test_generated_columns.py", "tests/matrix/test_constraints.py"]
# By what speaks to the server: folders and files of tests/, and programs of the build.
ALL = {
    "postgresql": ["tests/integration", "tests/faults/test_gaps.py", "tests/faults/test_rows.py", "tests/faults/test_postgres_restarts.py",
                   "tests/unit/sources/postgres/postgres_tests"],
    "redis": ["tests/integration", "tests/faults/test_redis_trouble.py", "tests/faults/test_several_caches.py", "tests/faults/test_cluster.py",
              "tests/readers/test_race.py",
              "tests/unit/sinks/redis/redis_tests"],
}


def tests_of(name, is_all):
    kind, _, version = name.partition("-")
    chosen = list((ALL if is_all else SHORT)["postgresql" if kind == "postgresql" else "redis"])
    if kind == "postgresql":
        chosen += (FROM_17 if int(version) >= 17 else []) + (FROM_18 if int(version) >= 18 else [])
    # File by file: a hang is given up after a time that a whole folder may need.
    for folder in [what for what in chosen if os.path.isdir(f"{TESTS}/../{what}")]:
        at = chosen.index(folder)
        chosen[at:at + 1] = [f"{folder}/{os.path.basename(path)}" for path in sorted(glob.glob(f"{TESTS}/../{folder}/test_*.py"))]
    return chosen


def fetch(name):
    """-> where its programs are; None when they cannot be had, and why is printed."""
    done = subprocess.run([sys.executable, f"{HERE}/fetch.py", SERVERS, name], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        print(done.stderr.strip(), flush=True)
        return None
    return done.stdout.strip().partition(" ")[2]


def environment_of(name, programs):
    variable = "EVICTD_POSTGRES_PROGRAMS" if name.startswith("postgresql") else "EVICTD_REDIS_PROGRAM"
    return {**os.environ, "EVICTD_BINARY_DIR": BINARIES, "EVICTD_REQUIRE_SERVERS": "1", variable: programs}


def counts_of(output):
    """What pytest or GoogleTest counted, for the table."""
    counts = {}
    for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", output):
        counts[word] = int(number)
    for word, number in re.findall(r"\[ +(PASSED|FAILED|SKIPPED) +\] (\d+) test", output):
        counts[word.lower()] = int(number)
    return counts


def run(what, environment):
    """-> (whether it passed, what it counted, seconds)."""
    if what.endswith("_tests"):
        command = [os.path.join(BINARIES, what), "--gtest_brief=1"]
    else:
        command = ["/usr/bin/python3", f"{TESTS}/harness/run_pytest.py", os.path.join(os.path.dirname(TESTS), what)]
    began = time.monotonic()
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    counts = counts_of(done.stdout)
    # Nothing that ran is no success.
    passed = done.returncode == 0 and counts.get("passed", 0) > 0
    if not passed:
        print(done.stdout[-20_000:], flush=True)
    return passed, counts, time.monotonic() - began


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--all"]
    is_all = "--all" in sys.argv[1:]
    sys.path.insert(0, HERE)
    import fetch as known  # pylint: disable=import-outside-toplevel

    table = []
    missing = []
    for name in arguments or (known.SERVERS if is_all else NEWEST):
        programs = fetch(name)
        if programs is None:
            missing.append(name)
            continue
        for what in tests_of(name, is_all):
            print(f"== {name}: {what}", flush=True)
            passed, counts, seconds = run(what, environment_of(name, programs))
            table.append((name, what, passed, counts, seconds))
    for name, what, passed, counts, seconds in table:
        told = ", ".join(f"{number} {word}" for word, number in counts.items())
        print(f"{name:14} {what:48} {'passed' if passed else 'FAILED'} ({told}) {seconds:.0f} s")
    if not all(passed for _, _, passed, _, _ in table):
        return 1
    if missing and (is_all or os.environ.get("EVICTD_REQUIRE_MATRIX") == "1"):
        print(f"FAILED: could not be fetched: {', '.join(missing)}")
        return 1
    if missing:
        print(f"SKIPPED: could not be fetched: {', '.join(missing)}")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
