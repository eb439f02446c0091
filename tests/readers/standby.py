"""A physical standby of a private PostgreSQL, as far behind as a test wants."""

import os
import subprocess

from harness import servers


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
