"""A physical standby of a private PostgreSQL, as far behind as a test wants."""

import os
import subprocess

from harness import servers
from harness.waiting import eventually


class Standby(servers.Postgres):
    def __init__(self, folder, primary, delay_ms):
        self.primary = primary
        super().__init__(folder, {"recovery_min_apply_delay": f"{delay_ms}ms", "hot_standby": "on"})

    def _initialise(self):
        as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*as_owner, f"{self.programs}/pg_basebackup", "-D", self.data, "-d", self.primary.url("postgres"), "-R", "-c", "fast",
             "--no-sync"], stdin=subprocess.DEVNULL, capture_output=True, check=True, cwd="/")
        self._configure()


def either(primary, standby):
    """The URL of whichever of the two is the primary."""
    return f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/shop?target_session_attrs=read-write"


def fail_over(primary, standby, cache, evictd, reason):
    """What only the old primary had is purged, as a gap of this reason and of no other, and the new one is followed."""
    cache.set("product:50", "of a transaction that only the old primary had")
    primary.stop("immediate")
    standby.execute("select pg_promote()")
    eventually("what may be of a lost transaction is purged", lambda: not cache.exists("product:50"), 30)
    cache.set("product:7", "old")
    standby.execute("update products set name = name || '.' where id = 7")
    eventually("the new primary is followed", lambda: not cache.exists("product:7"))
    assert evictd.metrics().sum("evictd_gaps_total", reason=reason) == 1
    assert evictd.metrics().sum("evictd_gaps_total") == 1
    evictd.wait_until_ready()
