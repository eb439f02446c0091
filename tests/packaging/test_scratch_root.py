"""A whole life of the package in a Debian system of its own: installed, configured, started, reloaded, upgraded,
removed, purged; and the image's last stage, step by step. It fetches a system (some 150 MB) and boots it, as root:
EVICTD_SCRATCH_ROOT=1 asks for it."""

import os
import re
import shutil
import signal
import time
import urllib.error
import urllib.request

import pytest
import scratch_root
from package import BUILD, needs, packed, program_version, run

from harness import process, servers, shop
from harness.daemon import ROOT
from harness.waiting import eventually

pytestmark = pytest.mark.skipif(os.environ.get("EVICTD_SCRATCH_ROOT") != "1",
                                reason="EVICTD_SCRATCH_ROOT=1 makes a Debian system and boots it")


@pytest.fixture(scope="module", name="plain_root")
def plain_root_folder():
    needs("debootstrap", "systemd-nspawn", "nsenter")
    if os.geteuid() != 0:
        pytest.skip("only root can make and boot a system")
    # Not below /tmp where that is memory: a system is large.
    folder = process.temporary_folder("evictd-root-") + "/root"
    scratch_root.make(folder, "systemd", "systemd-sysv", "dbus", "ca-certificates")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", name="database")
def shop_database():
    server = servers.Postgres(process.temporary_folder("evictd-package-pg-")).start()
    shop.create(server, ROOT)
    server.execute("create role evictd login replication; alter table products owner to evictd;"
                   "alter table categories owner to evictd; grant create on database shop to evictd")
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module", name="cache")
def redis_server():
    server = servers.Redis(process.temporary_folder("evictd-package-redis-")).start()
    yield server
    server.stop()


RULES = """rules:
  - table: public.products
    keys: ["product:{id}"]
"""


def write_configuration(system, database, cache, port):
    system.write("/etc/evictd/environment",
                 f"EVICTD_POSTGRES_URL='{database.url(user='evictd')}'\nEVICTD_REDIS_URL='{cache.url()}'\n"
                 f"EVICTD_LISTEN='127.0.0.1:{port}'\n")
    system.write("/etc/evictd/rules.yaml", RULES)


def key_goes(database, cache, key="product:7"):
    cache.client().set(key, "old")
    database.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually(f"{key} is gone", lambda: cache.client().get(key) is None, 30)


def ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        raise AssertionError(f"/readyz says {error.code}: {error.read().decode()}") from None
    except OSError as error:
        raise AssertionError(str(error)) from None


def installed_state(system):
    return system.run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "evictd", check=False).stdout


def test_the_life_of_the_package(plain_root, database, cache):
    system = scratch_root.ScratchRoot(plain_root).boot()
    port = process.free_port()
    try:
        shutil.copyfile(packed(), f"{plain_root}/root/first.deb")
        shutil.copyfile(packed(program_version() + "+next"), f"{plain_root}/root/second.deb")
        system.run("apt-get", "update", "-qq")

        begun = time.monotonic()
        said = system.output("apt-get", "install", "-y", "-qq", "--no-install-recommends", "/root/first.deb")
        assert "systemctl start evictd" in said
        assert installed_state(system) == f"installed {program_version()}"
        assert "evictd" in system.output("getent", "passwd", "evictd")
        assert "/nologin" in system.output("getent", "passwd", "evictd")
        assert system.run("systemctl", "is-enabled", "evictd").stdout.strip() == "enabled"
        # It has no database yet: not started, and started by hand it says what is missing, and is tried again until it is given.
        assert system.run("systemctl", "is-active", "evictd", check=False).stdout.strip() == "inactive"
        system.run("systemctl", "start", "evictd", check=False)
        eventually("systemd tried again", lambda: int(system.output("systemctl", "show", "-p", "NRestarts", "--value", "evictd")) > 0, 30)
        assert "EVICTD_POSTGRES_URL" in system.output("journalctl", "-u", "evictd", "--no-pager")

        write_configuration(system, database, cache, port)
        system.run("systemctl", "restart", "evictd")
        eventually("evictd is ready", lambda: ready(port), 30)
        key_goes(database, cache)
        print(f"from the start of the installation to the first key invalidated: {time.monotonic() - begun:.1f} s")
        main = system.output("systemctl", "show", "-p", "MainPID", "--value", "evictd").strip()
        assert system.output("stat", "-c", "%U", f"/proc/{main}").strip() == "evictd"
        assert system.run("runuser", "-u", "evictd", "--", "cat", "/etc/evictd/environment", check=False).returncode != 0

        # SIGHUP by systemctl reload: a new rule acts, the process is the same.
        system.write("/etc/evictd/rules.yaml", RULES + '  - table: public.products\n    name: two\n    keys: ["p2:{id}"]\n')
        system.run("systemctl", "reload", "evictd")
        eventually("the new rule acts", lambda: key_goes(database, cache, "p2:7") or True, 30)
        assert system.output("systemctl", "show", "-p", "MainPID", "--value", "evictd").strip() == main
        system.write("/etc/evictd/rules.yaml", RULES)

        # Upgraded: edited files stay, and it runs again without being asked.
        system.run("apt-get", "install", "-y", "-qq", "/root/second.deb")
        assert installed_state(system) == f"installed {program_version()}+next"
        assert RULES == system.output("cat", "/etc/evictd/rules.yaml")
        eventually("another process runs", lambda: system.output(
            "systemctl", "show", "-p", "MainPID", "--value", "evictd").strip() not in ("0", main), 30)
        eventually("evictd is ready again", lambda: ready(port), 30)
        key_goes(database, cache)

        # Removed: stopped, the configuration stays, and the slot is spoken of.
        said = system.output("apt-get", "remove", "-y", "-qq", "evictd")
        assert "pg_drop_replication_slot" in said
        assert not os.path.exists(f"{plain_root}/usr/bin/evictd")
        assert system.run("systemctl", "is-active", "evictd", check=False).stdout.strip() != "active"
        assert RULES == system.output("cat", "/etc/evictd/rules.yaml")
        # Installed again it comes back enabled, with the configuration that stayed.
        system.run("apt-get", "install", "-y", "-qq", "/root/first.deb")
        system.run("systemctl", "start", "evictd")
        eventually("evictd is ready after it came back", lambda: ready(port), 30)

        system.run("apt-get", "purge", "-y", "-qq", "evictd")
        assert "installed" not in installed_state(system).replace("not-installed", "")
        left = run("find", plain_root, "-xdev", "-iname", "*evictd*", "-not", "-path", "*/proc/*").split()
        left = [path for path in left if not re.search(r"\.deb$|/var/(?:lib/apt|cache|log)/|/run/|/var/tmp/|/tmp/", path)]
        assert not left, f"left behind: {left}"
        assert system.run("getent", "passwd", "evictd", check=False).returncode != 0
    finally:
        system.stop()


def test_the_last_stage_of_the_image_step_by_step(plain_root, database, cache):
    """No engine builds the image here. Its first stage is the release build of a Debian 12 machine; each instruction
    of its last stage is carried out in a Debian 12 root, with the binary of this build."""
    folder = plain_root + "-image"
    run("cp", "-a", plain_root, folder)
    run("chroot", folder, "sh", "-c", "dpkg -P evictd >/dev/null 2>&1 || true")
    with open(f"{ROOT}/deploy/Dockerfile", encoding="utf-8") as file:
        text = re.sub(r"\\\n(?:\s*#.*\n)*", " ", file.read())
    last = text[text.rindex("\nFROM ") + 1:]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    user = entrypoint = command = None
    for line in last.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "RUN":
            run("chroot", folder, "sh", "-ec", rest)
        elif instruction == "COPY":
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                source = source.replace("/source/build/release", BUILD)
                into = folder + target + (os.path.basename(source) if target.endswith("/") else "")
                os.makedirs(os.path.dirname(into), exist_ok=True)
                shutil.copy(source if source.startswith("/") else f"{ROOT}/{source}", into)
        elif instruction == "ENV":
            name, _, value = rest.partition("=")
            environment[name] = value
        elif instruction == "USER":
            user = rest
        elif instruction in ("ENTRYPOINT", "CMD"):
            words = re.findall(r'"([^"]*)"', rest)
            entrypoint, command = (words, command) if instruction == "ENTRYPOINT" else (entrypoint, words)
        else:
            assert instruction in ("FROM", "EXPOSE", "STOPSIGNAL", "#", ""), f"unknown instruction: {line}"
    port = process.free_port()
    environment.update(EVICTD_LISTEN=f"127.0.0.1:{port}", EVICTD_POSTGRES_URL=database.url(user="postgres"), EVICTD_REDIS_URL=cache.url())
    numbers = run("chroot", folder, "id", "-u", user).strip()
    assert numbers == "10001"
    daemon = process.start(["chroot", f"--userspec={user}", folder, "env", "-i", *[f"{name}={value}" for name, value in environment.items()],
                            *entrypoint, *command], log=f"{folder}.log")
    try:
        eventually("evictd of the image is ready", lambda: ready(port), 30)
        key_goes(database, cache)
    finally:
        assert process.end(daemon, signal.SIGTERM, 20) == 0
        shutil.rmtree(folder, ignore_errors=True)
