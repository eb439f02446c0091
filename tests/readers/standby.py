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
        if not os.path.exists(f"{self.programs}/pg_basebackup"):
            self._copy(as_owner)
            self._configure()
            return
        subprocess.run(
            [*as_owner, f"{self.programs}/pg_basebackup", "-D", self.data, "-d", self.primary.url("postgres"), "-R", "-c", "fast",
             "--no-sync"], stdin=subprocess.DEVNULL, capture_output=True, check=True, cwd="/")
        self._configure()

    def _copy(self, as_owner):
        """As pg_basebackup does it, which the matrix's packages do not have."""
        connection = self.primary.connect("postgres")
        with connection.cursor() as cursor:
            is_old = connection.server_version < 150000
            cursor.execute("select pg_start_backup('copy', true, false)" if is_old else "select pg_backup_start('copy', true)")
            # A file of a running server may go while it is copied.
            subprocess.run([*as_owner, "cp", "-a", self.primary.data, self.data], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/")
            cursor.execute("select labelfile from " + ("pg_stop_backup(false)" if is_old else "pg_backup_stop()"))
            label = cursor.fetchone()[0]
        connection.close()
        os.remove(f"{self.data}/postmaster.pid")
        subprocess.run([*as_owner, "sh", "-c", f"rm -rf {self.data}/pg_replslot/*"], check=True, cwd="/")
        conninfo = f"host=127.0.0.1 port={self.primary.port} user=postgres"
        for name, text in (("backup_label", label), ("standby.signal", ""), ("postgresql.auto.conf", f"primary_conninfo = '{conninfo}'\n")):
            with open(f"{self.data}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
            subprocess.run(["chown", "--reference", self.data, f"{self.data}/{name}"], check=True)


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
