"""Runs the pytest files of this folder for ctest. Without the parts of Kafka it is a skip that says so; a failure with
EVICTD_REQUIRE_KAFKA=1."""

import faulthandler
import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import run_pytest, servers  # noqa: E402  pylint: disable=wrong-import-position


def what_is_missing():
    missing = run_pytest.what_is_missing()
    if missing is not None:
        return missing
    import parts  # pylint: disable=import-outside-toplevel

    try:
        parts.fetch()
    except servers.ServerMissing as error:
        return str(error)
    return None


def main():
    missing = what_is_missing()
    if missing is not None and os.environ.get("EVICTD_REQUIRE_KAFKA") != "1":
        print(f"SKIPPED: {missing}")
        return run_pytest.SKIPPED
    if missing is not None:
        print(f"FAILED: {missing}; EVICTD_REQUIRE_KAFKA=1 allows no skip")
        return 1
    seed = os.environ.setdefault("EVICTD_SEED", str(random.randrange(10**9)))
    print(f"EVICTD_SEED={seed} repeats the choices of this run", flush=True)
    faulthandler.dump_traceback_later(2350, exit=True)
    import pytest  # pylint: disable=import-outside-toplevel

    return pytest.main(["-q", "-ra", "--tb=short", "-p", "no:cacheprovider", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
