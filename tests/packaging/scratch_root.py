"""A Debian system in a folder: made by debootstrap, booted with its own systemd by systemd-nspawn. It shares the
network with the machine, so that its evictd reaches the private servers of a test."""

import os
import shutil
import signal
import subprocess
import sys

from package import run

from harness import process
from harness.waiting import eventually


def mirror():
    """Where this machine gets its Debian packages from."""
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").splitlines():
        uri, release, component = line.split()
        if release == "bookworm" and component == "main":
            return uri
    raise AssertionError("apt knows no source of Debian 12")


def make(folder, *packages):
    run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", folder, mirror())
    # The same sources, proxies and keys as this machine's, and no service that starts by being installed.
    for name in ("apt/sources.list", "apt/sources.list.d/debian.sources", "apt/apt.conf.d", "resolv.conf", "hosts"):
        source = f"/etc/{name}"
        if os.path.isdir(source):
            shutil.copytree(source, f"{folder}/etc/{name}", dirs_exist_ok=True)
        elif os.path.exists(source):
            shutil.copyfile(source, f"{folder}/etc/{name}")


class ScratchRoot:
    """One booted system."""

    def __init__(self, folder):
        self.folder = folder
        self.log = f"{folder}.log"
        self.process = None
        self.leader = None

    def boot(self):
        self.process = process.start(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off",
             "-D", self.folder, "--boot"], log=self.log)
        eventually("the system has booted", self._has_booted, 60)
        return self

    def _has_booted(self):
        assert self.process.poll() is None, f"systemd-nspawn ended with {self.process.returncode}, see {self.log}"
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            leaders = children.read().split()
        if not leaders:
            return False
        self.leader = leaders[0]
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        assert state in ("running", "degraded"), f"systemd says '{state}'"
        return True

    def run(self, *command, check=True, timeout=300):
        done = subprocess.run(["nsenter", "-t", self.leader, "-m", "-u", "-i", "-p", "-r", "-w", "--", *command],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, timeout=timeout,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"})
        if check:
            assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done

    def output(self, *command, **more):
        return self.run(*command, **more).stdout

    def write(self, path, text):
        with open(self.folder + path, "w", encoding="utf-8") as file:
            file.write(text)

    def stop(self):
        if self.leader is not None and self.process.poll() is None:
            os.kill(int(self.leader), signal.SIGRTMIN + 4)  # systemd: power off
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            print("the scratch root did not power off", file=sys.stderr)
            process.end(self.process, signal.SIGKILL)
