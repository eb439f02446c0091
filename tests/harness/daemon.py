"""The built evictd as a process: only its binary, its signals, its HTTP port and its log are known here."""

import http.client
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

from . import process
from .waiting import eventually

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def binary(name="evictd"):
    """The program under test: EVICTD_BINARY_DIR (set by ctest), else the newest build of a preset."""
    folder = os.environ.get("EVICTD_BINARY_DIR")
    candidates = [folder] if folder else [f"{ROOT}/build/dev", f"{ROOT}/build/release"]
    for candidate in candidates:
        path = os.path.join(candidate, name)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"no {name} in {' or '.join(candidates)}: cmake --preset dev && cmake --build --preset dev")


def sanitizer(program):
    """'address', 'thread' or '': what a program was built with. Its memory is not evictd's then."""
    with open(program, "rb") as file:
        text = file.read()
    return "address" if b"__asan_init" in text else "thread" if b"__tsan_init" in text else ""


class Metrics:
    """One scrape of /metrics."""

    _line = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
    _label = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            if line.startswith("#") or not line:
                continue
            match = self._line.match(line)
            assert match, f"not a metrics line: {line!r}"
            name, labels, value = match.groups()
            self.samples.append((name, dict(self._label.findall(labels or "")), float(value)))

    def sum(self, name, **labels):
        """The sum over all series that carry these labels; 0 when there is none."""
        return sum(value for sample, has, value in self.samples
                   if sample == name and all(has.get(key) == wanted for key, wanted in labels.items()))

    def get(self, name, **labels):
        """The same, but None when there is no such series."""
        values = [value for sample, has, value in self.samples
                  if sample == name and all(has.get(key) == wanted for key, wanted in labels.items())]
        return sum(values) if values else None

    def quantile(self, name, q, since=None, **labels):
        """A histogram's quantile in seconds, of what was counted after the scrape `since` by the series that have these
        labels; interpolated inside its bucket as Prometheus does. None when nothing was counted."""
        buckets = self._buckets(name, labels)
        if since is not None:
            before = since._buckets(name, labels)
            buckets = {bound: count - before.get(bound, 0) for bound, count in buckets.items()}
        total = buckets.get(float("inf"), 0)
        if total <= 0:
            return None
        lower_bound, lower_count = 0.0, 0.0
        for bound, count in sorted(buckets.items()):
            if count >= q * total:
                if bound == float("inf"):
                    break
                return lower_bound + (bound - lower_bound) * (q * total - lower_count) / (count - lower_count or 1)
            lower_bound, lower_count = bound, count
        return lower_bound

    def _buckets(self, name, labels):
        buckets = {}
        for sample, has, value in self.samples:
            if sample == name + "_bucket" and labels.items() <= has.items():
                bound = float(has["le"].replace("+Inf", "inf"))
                buckets[bound] = buckets.get(bound, 0) + value
        return buckets


class Evictd:
    """One configured daemon. It may be started, ended and started again."""

    env = None  # the environment of its process; None: ours

    def __init__(self, folder, postgres_url, redis_url, rules, *, slot="evictd", publication="evictd",
                 postgres_more="", redis_more="", more="", program="evictd", caches=None):
        """`caches`: what stands below 'caches:', indented; instead of `redis_url`."""
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.program = binary(program)
        self.port = process.free_port()
        self.log = os.path.join(folder, "evictd.log")
        self.config = os.path.join(folder, "evictd.yaml")
        self.rules = os.path.join(folder, "rules.yaml")
        self.slot = slot
        self.process = None
        self.write_rules(rules)
        cache = f"caches:\n{caches}" if caches else f"redis:\n  url: {redis_url}\n{_indent(redis_more)}"
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"postgres:\n  url: {postgres_url}\n  slot: {slot}\n  publication: {publication}\n{_indent(postgres_more)}"
                       f"{cache}"
                       f"http:\n  listen: 127.0.0.1:{self.port}\nlog: {{level: info, format: text}}\nrules: rules.yaml\n{more}")

    def write_rules(self, text):
        with open(self.rules, "w", encoding="utf-8") as file:
            file.write(text)

    # The process.

    def start(self, ready=True, seconds=30):
        assert not self.is_running(), "already running"
        self.process = process.start([self.program, "run", "-c", self.config], log=self.log, env=self.env)
        if ready:
            self.wait_until_ready(seconds)
        return self

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def wait_until_ready(self, seconds=30):
        def is_ready():
            assert self.is_running(), f"evictd ended with {self.process.returncode}:\n{self.log_tail()}"
            code, text = self.http("/readyz")
            assert code == 200, f"/readyz says {code}: {text.strip()}"
            return True

        eventually("evictd is ready", is_ready, seconds)

    def stop(self, patience=20.0):
        """SIGTERM; the exit code."""
        return process.end(self.process, signal.SIGTERM, patience)

    def kill(self):
        return process.end(self.process, signal.SIGKILL)

    def signal(self, number):
        self.process.send_signal(number)

    def command(self, *arguments, check=False, timeout=60, env=None):
        """Runs another command of the binary with this configuration."""
        return subprocess.run([self.program, *arguments, "-c", self.config], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=check,
                              timeout=timeout, env=env)

    def audit(self, *arguments, timeout=90):
        """The counts, the findings, the exit code and what was said beside them."""
        done = self.command("audit", "--json", "--rate", "1000", *arguments, timeout=timeout)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, f"exit {done.returncode}: {done.stderr}"
        counts = lines.pop()
        assert list(counts) == ["checked", "fresh", "stale", "in_flight", "unreadable"]
        assert counts["checked"] == sum(counts.values()) - counts["checked"]
        return counts, lines, done.returncode, done.stderr

    # What it says.

    def http(self, path):
        """(status code, body), or (0, reason) when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def metrics(self):
        code, text = self.http("/metrics")
        assert code == 200, f"/metrics says {code}: {text}"
        return Metrics(text)

    def status(self):
        code, text = self.http("/status")
        assert code == 200, f"/status says {code}: {text}"
        return json.loads(text)

    def is_ready(self):
        return self.http("/readyz")[0] == 200

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    # What it uses, from /proc.

    def cpu_seconds(self):
        return process.cpu_seconds(self.process.pid)

    def memory_bytes(self, field="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc")

    def has_used_little(self, mebibytes):
        """At its most, evictd itself. A sanitizer notes each byte down, and that of addresses keeps what was freed for a while."""
        bound = mebibytes * (4 if sanitizer(self.program) else 1) << 20
        return self.memory_bytes("VmHWM") <= bound


def _indent(text):
    return "".join(f"  {line}\n" for line in text.splitlines())
