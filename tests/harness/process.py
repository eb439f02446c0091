"""Child processes that end with us, whatever way we end."""

import atexit
import ctypes
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_started = []
_reserved = []


def start(command, *, log, user=None, death_signal=signal.SIGKILL, env=None, cwd=None, pipe=False):
    """Starts a process whose output goes to the file `log`. The kernel sends it `death_signal` when the
    thread that started it ends, so call this from the main thread. With `pipe`, its standard input and output are
    ours, and only its errors are logged."""

    def die_with_parent():
        _libc.prctl(_PR_SET_PDEATHSIG, death_signal)

    extra = {}
    if user is not None and os.geteuid() == 0:
        account = pwd.getpwnam(user)
        extra = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE if pipe else subprocess.DEVNULL, stdout=subprocess.PIPE if pipe else output,
            stderr=output, env=env, cwd=cwd, start_new_session=True, preexec_fn=die_with_parent, **extra)
    _started.append((process, death_signal))
    return process


def end_all():
    """Ends every process that start() made and that still runs, the newest first."""
    for process, death_signal in reversed(_started):
        end(process, death_signal)


def end(process, first=signal.SIGTERM, patience=10.0):
    """Asks a process to end, then makes it. Returns its exit code, or None when there is no process."""
    if process is None:
        return None
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(first)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def free_port():
    """A port of 127.0.0.1 on which nobody listens and which no other test takes until this process ends: reserved
    by a lock on a file named after it, as tests/support/ports.h says."""
    folder = os.path.join(tempfile.gettempdir(), f"evictd-ports-{os.geteuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for _ in range(10_000):
        port = random.randrange(10_000, 32_000)
        lock = open(os.path.join(folder, str(port)), "w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        return port
    raise RuntimeError("no port of 127.0.0.1 between 10000 and 32000 is free")


def temporary_folder(prefix="evictd-", stays=False):
    """A folder that any user may enter (PostgreSQL refuses to run as root, so it runs as another user). It goes with the process that made
    it at the latest, unless it `stays`."""
    folder = tempfile.mkdtemp(prefix=prefix)
    os.chmod(folder, 0o755)
    if not stays:
        atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder, maker):
    if os.getpid() == maker:  # and none of its forks
        shutil.rmtree(folder, ignore_errors=True)


def cpu_seconds(pid):
    """What all threads of the process have used: proc_pid_stat(5), utime and stime."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
