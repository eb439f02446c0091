"""Runs one pytest file for ctest. Exit code 77 (a skip with its reason) when something it needs is not
installed; with EVICTD_REQUIRE_SERVERS=1 that is a failure."""

import faulthandler
import importlib.util
import os
import random
import sys

SKIPPED = 77


class Seen:
    """Counts what ran: a file of which every test was skipped is no success, and ctest has to show it."""

    def __init__(self):
        self.ran = 0
        self.skipped = []

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.skipped.append(str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr))
        elif report.when == "call":
            self.ran += 1

    def verdict(self, code):
        """The exit code for ctest, when pytest ended with `code`."""
        if code != 0 or self.ran > 0 or not self.skipped:
            return code
        print(f"SKIPPED, all of it: {self.skipped[0]}")
        return SKIPPED


def what_is_missing():
    for module, package in (("pytest", "python3-pytest"), ("psycopg2", "python3-psycopg2"), ("redis", "python3-redis")):
        if importlib.util.find_spec(module) is None:
            return f"no Python module '{module}' for {sys.executable}: apt-get install {package}"
    from harness import servers  # pylint: disable=import-outside-toplevel

    try:
        servers.postgres_programs()
        servers.redis_program()
    except servers.ServerMissing as error:
        return str(error)
    return None


def main():
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    missing = what_is_missing()
    if missing is not None:
        if os.environ.get("EVICTD_REQUIRE_SERVERS") == "1":
            print(f"FAILED: {missing}; EVICTD_REQUIRE_SERVERS=1 allows no skip")
            return 1
        print(f"SKIPPED: {missing}")
        return SKIPPED
    # Randomized tests draw everything from this number.
    seed = os.environ.setdefault("EVICTD_SEED", str(random.randrange(10**9)))
    print(f"EVICTD_SEED={seed} repeats the choices of this run", flush=True)
    # A hang ends with the place where it hangs; every server we started ends with us.
    faulthandler.dump_traceback_later(3000 if os.environ.get("EVICTD_SOAK") else 560, exit=True)
    import pytest  # pylint: disable=import-outside-toplevel

    seen = Seen()
    code = pytest.main(["-q", "-ra", "--tb=short", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[seen])
    return seen.verdict(code)


if __name__ == "__main__":
    sys.exit(main())
