"""The package and the installed tree, looked at without installing anything."""

import os
import re
import subprocess
import tarfile

import pytest
from package import BUILD, needs, packed, program_version, run

from harness import process
from harness.daemon import ROOT

CONFFILES = {"/etc/evictd/environment", "/etc/evictd/evictd.yaml", "/etc/evictd/rules.yaml"}


@pytest.fixture(scope="module", name="unpacked")
def unpacked_folder():
    """{'': the tree, 'DEBIAN': control files} of the package."""
    folder = process.temporary_folder("evictd-unpacked-")
    run("dpkg-deb", "-R", packed(), folder)
    return folder


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return file.read()


def files_below(folder):
    return {"/" + os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names}


def test_the_package_has_what_an_operator_looks_for(unpacked):
    have = files_below(unpacked)
    for path in ("/usr/bin/evictd", "/usr/lib/systemd/system/evictd.service", "/usr/share/doc/evictd/README.md",
                 "/usr/share/doc/evictd/copyright", "/usr/share/doc/evictd/docs/rules.md",
                 "/usr/share/doc/evictd/examples/rules.yaml", "/usr/share/man/man1/evictd.1.gz",
                 "/usr/share/bash-completion/completions/evictd", "/usr/share/zsh/vendor-completions/_evictd",
                 "/usr/share/fish/vendor_completions.d/evictd.fish", *CONFFILES):
        assert path in have, f"{path} is not in the package"
    assert run("zcat", f"{unpacked}/usr/share/man/man1/evictd.1.gz") == run(f"{BUILD}/evictd", "man")
    for shell, path in (("bash", "bash-completion/completions/evictd"), ("zsh", "zsh/vendor-completions/_evictd"),
                        ("fish", "fish/vendor_completions.d/evictd.fish")):
        assert read(unpacked, f"usr/share/{path}") == run(f"{BUILD}/evictd", "completion", shell)
    assert not any(re.search(r"\.(?:cpp|h|a|o)$|/tests?/|node_modules|__pycache__", path) for path in have), have


def test_what_an_operator_edits_is_a_conffile(unpacked):
    listed = set(read(unpacked, "DEBIAN/conffiles").split())
    assert listed == {path for path in files_below(unpacked) if path.startswith("/etc/")} == CONFFILES


def test_control_names_the_version_and_the_libraries(unpacked):
    control = dict(re.findall(r"^(\S+): (.*)$", read(unpacked, "DEBIAN/control"), re.M))
    assert control["Package"] == "evictd"
    assert control["Version"] == program_version()
    assert control["Section"] == "database"
    assert len(control["Description"]) <= 80
    assert re.search(r"^ \S", read(unpacked, "DEBIAN/control"), re.M), "no long description"
    for library in ("libc6", "libpq5", "libssl3", "librdkafka1", "libcurl4", "libyaml-cpp", "adduser"):
        assert library in control["Depends"], control["Depends"]


def test_the_image_and_the_package_need_the_same_libraries(unpacked):
    """deploy/packages.sh's group `run` is written by hand; what the linker knows is not."""
    depends = re.search(r"^Depends: (.*)$", read(unpacked, "DEBIAN/control"), re.M)[1]
    needed = {re.split(r"[ (]", one.strip())[0] for one in depends.split(",")}
    listed = set(run(f"{ROOT}/deploy/packages.sh", "list", "run").split())
    always_there = {"libc6", "libgcc-s1", "libstdc++6", "adduser", "init-system-helpers"}
    virtual = {"libspdlog1.10-fmt9": "libspdlog1.10"}
    of_sanitizers = {"libasan8", "libubsan1", "libtsan2"}  # in no package that is given away
    missing = {virtual.get(name, name) for name in needed} - always_there - of_sanitizers - listed
    assert not missing, f"deploy/packages.sh run lacks {missing}"


def test_files_belong_to_root_and_only_root_reads_the_secrets():
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", packed()], stdout=subprocess.PIPE, check=True).stdout
    import io  # pylint: disable=import-outside-toplevel

    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            assert (member.uid, member.gid) == (0, 0), member.name
            wanted = 0o755 if member.isdir() or member.name == "./usr/bin/evictd" else 0o644
            if member.name == "./etc/evictd/environment":
                wanted = 0o600
            assert member.mode == wanted, f"{member.name} is {member.mode:o}"


def test_the_binary_is_stripped_and_is_the_one_that_was_built(unpacked):
    needs("readelf")
    assert ".symtab" not in run("readelf", "-S", f"{unpacked}/usr/bin/evictd")
    assert run(f"{unpacked}/usr/bin/evictd", "--version") == run(f"{BUILD}/evictd", "--version")


def test_the_unit_starts_what_the_package_installs(unpacked):
    unit = read(unpacked, "usr/lib/systemd/system/evictd.service")
    assert "/usr/local" not in unit
    assert re.search(r"^ExecStart=/usr/bin/evictd run -c /etc/evictd/evictd.yaml$", unit, re.M)
    assert re.search(r"^EnvironmentFile=-/etc/evictd/environment$", unit, re.M)


def test_maintainer_scripts_are_shell_without_mistakes(unpacked):
    for name in ("postinst", "prerm", "postrm"):
        path = f"{unpacked}/DEBIAN/{name}"
        assert os.stat(path).st_mode & 0o777 == 0o755
        text = read(path)
        assert text.startswith("#!/bin/sh\n") and "set -e" in text
        run("sh", "-n", path)
        refused = subprocess.run(["sh", path, "nonsense"], capture_output=True, text=True, check=False)
        if name != "postrm":
            assert refused.returncode == 1 and "unknown argument 'nonsense'" in refused.stderr


def test_checksums_are_those_of_the_files(unpacked):
    sums = read(unpacked, "DEBIAN/md5sums").split()
    assert {"/" + path for path in sums[1::2]} >= files_below(unpacked) - CONFFILES - {
        path for path in files_below(unpacked) if path.startswith("/DEBIAN/")}
    run("md5sum", "--quiet", "-c", "DEBIAN/md5sums", cwd=unpacked)


def test_the_configuration_of_the_package_says_what_is_missing(unpacked):
    """As installed, evictd does not start; each message names the next step."""
    config = f"{unpacked}/etc/evictd/evictd.yaml"

    def check(environment):
        return subprocess.run([f"{unpacked}/usr/bin/evictd", "check", "--offline", "-c", config], env=environment,
                              capture_output=True, text=True, check=False)

    environment = {name: value.strip("'") for name, value in
                   re.findall(r"^(EVICTD_\w+)=(.*)$", read(unpacked, "etc/evictd/environment"), re.M)}
    without_database = check(environment)
    assert without_database.returncode == 2
    assert "environment variable 'EVICTD_POSTGRES_URL' is not set" in without_database.stdout + without_database.stderr
    commented = re.search(r"^#(EVICTD_POSTGRES_URL)='(.*)'$", read(unpacked, "etc/evictd/environment"), re.M)
    environment[commented[1]] = commented[2]
    without_rules = check(environment)
    assert without_rules.returncode == 2
    assert "rules.yaml" in without_rules.stdout + without_rules.stderr
    # The example below `rules: []` is one: without the comment signs it passes.
    rules = read(unpacked, "etc/evictd/rules.yaml").replace("rules: []", "rules:")
    rules = re.sub(r"^#(  .*)$", r"\1", rules, flags=re.M)
    with open(f"{unpacked}/etc/evictd/rules.yaml", "w", encoding="utf-8") as file:
        file.write(rules)
    assert check(environment).returncode == 0, check(environment).stdout


def test_an_install_leaves_the_system_configuration_alone():
    """`cmake --install` to a prefix: nothing outside it, the unit names the prefix, an edited file stays edited."""
    needs("cmake")
    prefix = process.temporary_folder("evictd-prefix-")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    have = files_below(prefix)
    assert {"/bin/evictd", "/lib/systemd/system/evictd.service", "/share/doc/evictd/README.md"} <= have
    assert not any("etc/" in path for path in have)
    assert f"ExecStart={prefix}/bin/evictd run" in read(prefix, "lib/systemd/system/evictd.service")
    staged = process.temporary_folder("evictd-staged-")
    run("cmake", "--install", BUILD, "--prefix", "/opt/evictd", env=dict(os.environ, DESTDIR=staged))
    assert f"{staged}/opt/evictd/bin/evictd" in {staged + path for path in files_below(staged)}
    assert "ExecStart=/opt/evictd/bin/evictd run" in read(staged, "opt/evictd/lib/systemd/system/evictd.service")
