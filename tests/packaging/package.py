"""Packs and unpacks: the .deb as CPack makes it of this build, and its parts."""

import functools
import os
import re
import shutil
import subprocess

import pytest

from harness import process
from harness.daemon import ROOT, binary

BUILD = os.path.dirname(binary())


def run(*command, **more):
    """One command; its output. What it said is in the failure."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **more)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def needs(*programs):
    """Skips without them; a machine that may skip nothing has to have them."""
    for program in programs:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            if os.environ.get("EVICTD_REQUIRE_SERVERS") == "1":
                pytest.fail(f"no {program} on the PATH: deploy/packages.sh install build package")
            pytest.skip(f"no {program} on the PATH")


@functools.cache
def packed(version=None):
    """The path of the package."""
    needs("cpack", "dpkg-deb", "dpkg-shlibdeps")
    folder = process.temporary_folder("evictd-package-")
    more = ["-D", f"CPACK_DEBIAN_PACKAGE_VERSION={version}"] if version else []
    run("cpack", "-G", "DEB", "-B", folder, *more, cwd=BUILD)
    made = [name for name in os.listdir(folder) if name.endswith(".deb")]
    assert len(made) == 1, f"expected one package, got {made}"
    return os.path.join(folder, made[0])


def program_version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"project\(evictd VERSION (\S+)", file.read())[1]
