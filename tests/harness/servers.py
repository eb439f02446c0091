"""A private PostgreSQL and a private Redis: in a temporary folder, on a free port, ended by their process."""

import atexit
import functools
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess

import psycopg2
import redis

from . import process
from .waiting import eventually


class ServerMissing(Exception):
    """A server program is not installed. The text says which one and how to get it."""


def postgres_programs():
    """The newest installed PostgreSQL's folder of programs, or what EVICTD_POSTGRES_PROGRAMS names."""
    found = os.environ.get("EVICTD_POSTGRES_PROGRAMS")
    if found:
        return found
    folders = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if os.path.exists(path + "/initdb")]
    folders.sort(key=lambda path: int(path.split("/")[4]))
    if not folders:
        raise ServerMissing("no PostgreSQL server under /usr/lib/postgresql: apt-get install postgresql")
    return folders[-1]


def redis_program():
    """redis-server, or what EVICTD_REDIS_PROGRAM names."""
    found = os.environ.get("EVICTD_REDIS_PROGRAM")
    if found:
        return found
    program = shutil.which("redis-server")
    if program is None:
        raise ServerMissing("no redis-server on the PATH: apt-get install redis-server")
    return program


# fsync stays on: with it off, commits become visible to others before the stream sends them, and the
# race that evictd exists for would never be tested.
POSTGRES_SETTINGS = {
    "fsync": "on",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "40",
    "max_prepared_transactions": "10",
    "max_connections": "120",
    "shared_buffers": "128MB",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


_OWNER = "postgres"  # PostgreSQL refuses to run as root


def _give_to_owner(folder):
    os.makedirs(folder, exist_ok=True)
    if os.geteuid() == 0:
        account = pwd.getpwnam(_OWNER)
        os.chown(folder, account.pw_uid, account.pw_gid)


@functools.cache
def _empty_cluster(programs):
    """A cluster to copy: initdb takes seconds, a copy a fraction of one."""
    folder = process.temporary_folder("evictd-cluster-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _give_to_owner(folder)
    as_owner = ["runuser", "-u", _OWNER, "--"] if os.geteuid() == 0 else []
    made = subprocess.run(
        [*as_owner, f"{programs}/initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync"], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False)
    assert made.returncode == 0, f"initdb failed: {made.stderr}"
    return f"{folder}/data"


STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres:
    """One private cluster. Its superuser is `postgres`; there is no password on the loopback."""

    def __init__(self, folder, settings=None):
        self.programs = postgres_programs()
        self.folder = folder
        self.data = os.path.join(folder, "data")
        self.log = os.path.join(folder, "postgres.log")
        self.port = process.free_port()
        self.settings = dict(POSTGRES_SETTINGS, **(settings or {}))
        self.process = None
        _give_to_owner(folder)
        self._initialise()

    def _initialise(self):
        subprocess.run(["cp", "-a", _empty_cluster(self.programs), self.data], check=True)
        self._configure()

    def _configure(self):
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as config:
            for name, value in self.settings.items():
                config.write(f"{name} = '{value}'\n")
            config.write(f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n")

    def start(self):
        assert self.process is None or self.process.poll() is not None, "already running"
        # SIGQUIT: an immediate stop, should we be killed ourselves.
        self.process = process.start([f"{self.programs}/postgres", "-D", self.data], log=self.log,
                                     user=_OWNER, death_signal=signal.SIGQUIT, cwd="/")
        eventually("PostgreSQL answers", self._answers, 60)
        return self

    def _answers(self):
        assert self.process.poll() is None, f"PostgreSQL ended:\n{self.log_tail()}"
        try:
            psycopg2.connect(self.url("postgres")).close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self, mode="fast", patience=60.0):
        """smart: waits for sessions to leave. fast: ends them. immediate: as a crash."""
        return process.end(self.process, STOP_SIGNALS[mode], patience)

    def begin_stop(self, mode="fast"):
        self.process.send_signal(STOP_SIGNALS[mode])

    def url(self, database="shop", user="postgres", port=None):
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def connect(self, database="shop", user="postgres", autocommit=True, **more):
        connection = psycopg2.connect(self.url(database, user), **more)
        connection.autocommit = autocommit
        return connection

    def execute(self, statement, parameters=None, database="shop"):
        """One statement, or several separated by semicolons, on a connection of its own."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def execute_under_load(self, statement):
        """As execute(), again and again while it deadlocks with the writers of a test."""
        while True:
            try:
                return self.execute(statement)
            except psycopg2.errors.DeadlockDetected:
                continue

    def value(self, statement, parameters=None, database="shop"):
        rows = self.execute(statement, parameters, database)
        return rows[0][0] if rows else None

    def log_tail(self, lines=25):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])


class Redis:
    """One private redis-server without persistence."""

    def __init__(self, folder, options=()):
        self.program = redis_program()
        self.folder = folder
        self.log = os.path.join(folder, "redis.log")
        self.port = process.free_port()
        self.options = list(options)
        self.process = None
        os.makedirs(folder, exist_ok=True)

    def start(self):
        assert self.process is None or self.process.poll() is not None, "already running"
        # As Debian's: the first address of localhost, which some drivers take alone, may be either.
        self.process = process.start(
            [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "-::1", "--dir", self.folder, "--save", "",
             "--appendonly", "no", "--databases", "64", "--daemonize", "no", *self.options], log=self.log)
        eventually("Redis answers", self._answers, 30)
        return self

    def _answers(self):
        assert self.process.poll() is None, f"redis-server ended, see {self.log}"
        try:
            return self.client().ping()
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def stop(self):
        return process.end(self.process, signal.SIGKILL)

    def cpu_seconds(self):
        """Of all threads: a value that is large is freed by another one than the one that answers."""
        return process.cpu_seconds(self.process.pid)

    def url(self, database=0, port=None):
        return f"redis://127.0.0.1:{port or self.port}/{database}"

    def client(self, database=0, **more):
        more.setdefault("socket_timeout", 30)
        return redis.Redis(host="127.0.0.1", port=self.port, db=database, **more)


def varnish_program():
    program = shutil.which("varnishd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None or not glob.glob("/usr/lib/*/varnish/vmods/libvmod_xkey.so"):
        raise ServerMissing("no varnishd with vmod xkey: apt-get install varnish varnish-modules")
    return program


class Varnish:
    """One private Varnish in front of the application at `backend_port`, with a VCL of evictd's documents."""

    def __init__(self, folder, backend_port, vcl):
        self.program = varnish_program()
        self.folder = folder
        self.log = os.path.join(folder, "varnish.log")
        self.port = process.free_port()
        self.process = None
        os.makedirs(folder, exist_ok=True)
        backend = f'backend default {{ .host = "127.0.0.1"; .port = "{backend_port}"; }}\n'
        head, line, rest = vcl.partition("vcl 4.1;\n")
        assert line, "the VCL does not begin with its version"
        with open(f"{folder}/edge.vcl", "w", encoding="utf-8") as file:
            file.write(head + line + backend + rest)

    def start(self):
        assert self.process is None or self.process.poll() is not None, "already running"
        shutil.rmtree(f"{self.folder}/work", ignore_errors=True)
        self.process = process.start(
            [self.program, "-F", "-j", "none", "-n", f"{self.folder}/work", "-a", f"127.0.0.1:{self.port}",
             "-f", f"{self.folder}/edge.vcl", "-s", "malloc,64m"], log=self.log)
        eventually("Varnish answers", self._answers, 60)
        return self

    def _answers(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            assert self.process.poll() is None, f"varnishd ended:\n{log.read()}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
        except OSError:
            return False

    def child(self):
        """The process that keeps the pages."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def stop(self):
        """As a crash: nothing of what it kept is left."""
        if self.process is None or self.process.poll() is not None:
            return
        child = self.child()
        process.end(self.process, signal.SIGKILL)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def url(self):
        return f"http://127.0.0.1:{self.port}/"
