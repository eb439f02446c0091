"""The demo, with the build under test instead of a release build of its own."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from harness import daemon, servers, vectors
from harness.waiting import eventually

DEMO = [sys.executable, f"{daemon.ROOT}/deploy/demo.py"]


def environment():
    return dict(os.environ, EVICTD_BINARY_DIR=os.path.dirname(daemon.binary()), PYTHONUNBUFFERED="1")


def processes_naming(text):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if text.encode() in file.read():
                    found.append(pid)
        except OSError:
            pass
    return found


def test_once_ends_with_a_true_cache():
    ran = subprocess.run([*DEMO, "--once"], env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"every one of \d+ cached values equals its row; no other key was touched", ran.stdout), ran.stdout
    folder = re.search(r"log +(\S+)/evictd\.log", ran.stdout).group(1)
    assert not os.path.exists(folder)
    assert not processes_naming(folder)


def test_an_ended_demo_leaves_nothing_behind(tmp_path):
    output = tmp_path / "output"
    with open(output, "wb") as file:
        running = subprocess.Popen(DEMO, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        eventually("the demo shows a line", lambda: re.search(r"^ +1 +\d+", output.read_text(), re.M), 60)
        folder = re.search(r"log +(\S+)/evictd\.log", output.read_text()).group(1)
        assert processes_naming(folder)
        running.send_signal(signal.SIGTERM)
        eventually("it says that it stops", lambda: "stopping the writers" in output.read_text(), 10)
        running.send_signal(signal.SIGTERM)
        running.wait(30)
    finally:
        running.kill()
        running.wait()
    assert not os.path.exists(folder)
    assert not processes_naming(folder)


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.6, 1.0])
def test_an_interrupt_at_its_start_prints_no_traceback(tmp_path, delay):
    output = tmp_path / "output"

    def as_demo_sh_does():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with open(output, "wb") as file:
        running = subprocess.Popen(DEMO, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=as_demo_sh_does)
    try:
        time.sleep(delay)

        def ends():
            running.send_signal(signal.SIGINT)
            return running.poll() is not None

        eventually("it has ended", ends, 30, every=0.1)
    finally:
        running.kill()
        running.wait()
    said = output.read_text()
    assert "Traceback" not in said and "failed" not in said, said
    assert running.returncode in (130, -signal.SIGINT)
    folder = re.search(r"log +(\S+)/evictd\.log", said)
    assert folder is None or not os.path.exists(folder.group(1))


def test_an_unknown_option_is_refused_with_a_hint():
    ran = subprocess.run([f"{daemon.ROOT}/deploy/demo.sh", "--onse"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "demo.sh: unknown option '--onse'\nhint: deploy/demo.sh --help\n"


def test_answers_cached_by_meaning_go():
    vectors.need("vset")
    ran = subprocess.run([sys.executable, f"{daemon.ROOT}/deploy/demo_semantic.py", "--once"], env=environment(), stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "every answer that is left is about something else, or another shop's" in ran.stdout, ran.stdout


def need_varnish():
    try:
        servers.varnish_program()
    except servers.ServerMissing as missing:
        assert os.environ.get("EVICTD_REQUIRE_SERVERS") != "1", missing
        pytest.skip(str(missing))


def test_a_page_goes_from_redis_and_from_varnish_and_comes_anew():
    need_varnish()
    ran = subprocess.run([sys.executable, f"{daemon.ROOT}/deploy/demo_edge.py", "--once"], env=environment(), stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = re.findall(r"^  (varnish|redis)> +GET \S*7 +(\S+)", ran.stdout, re.M)
    assert [(place, what[:4]) for place, what in shown] == [
        ("varnish", "miss"), ("varnish", "hit"), ("redis", '{"id'), ("redis", "(nil"), ("varnish", "miss")], ran.stdout
    assert re.search(r"every one of 20 pages equals its row; \d+ of them come from Varnish", ran.stdout), ran.stdout
    folder = re.search(r"log +(\S+)/evictd\.log", ran.stdout).group(1)
    assert not os.path.exists(folder)
    eventually("no process is left", lambda: not processes_naming(folder), 10)  # Varnish's child sees that its parent has ended
