"""Child processes that end with us, whatever way we end."""

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import tempfile

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_started = []


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def temporary_folder(prefix="evictd-"):
    """A folder that any user may enter (PostgreSQL refuses to run as root, so it runs as another user)."""
    folder = tempfile.mkdtemp(prefix=prefix)
    os.chmod(folder, 0o755)
    return folder


def cpu_seconds(pid):
    """What all threads of the process have used: proc_pid_stat(5), utime and stime."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
