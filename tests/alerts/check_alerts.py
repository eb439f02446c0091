"""The shipped alerts load, fire when they must and not otherwise, name only metrics that evictd exports, and are explained in
docs/operations.md. Exit code 77: there is no promtool (Debian package prometheus)."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
PLAYED = ROOT / "tests/alerts/alerts_test.yml"


def problems():
    alerts = ALERTS.read_text()
    names = re.findall(r"^ *- alert: (\w+)$", alerts, re.MULTILINE)
    if not names:
        yield f"{ALERTS}: no alert"
    exported = "\n".join(path.read_text() for path in (ROOT / "daemon/app").glob("*.cpp"))
    for metric in sorted(set(re.findall(r"\bevictd_\w+", alerts))):
        if f'"{metric}"' not in exported:
            yield f"{ALERTS}: nothing exports '{metric}'"
    played = PLAYED.read_text()
    quiet = set(re.findall(r"alertname: (\w+), eval_time: \w+, exp_alerts: \[\]", played))
    loud = set(re.findall(r"alertname: (\w+)\n *eval_time: \w+\n *exp_alerts:\n", played))
    document = (ROOT / "docs/operations.md").read_text()
    for name in names:
        if name not in quiet:
            yield f"{PLAYED}: '{name}' is never shown not to fire"
        if name not in loud:
            yield f"{PLAYED}: '{name}' is never shown to fire"
        if f"`{name}`" not in document:
            yield f"docs/operations.md: '{name}' is not explained"


def main():
    found = list(problems())
    for one in found:
        print(one)
    if found:
        return 1
    promtool = shutil.which("promtool")
    if promtool is None:
        print("skipped: no promtool (apt-get install prometheus)")
        return 77
    for arguments in (["check", "rules", str(ALERTS)], ["test", "rules", str(PLAYED)]):
        if subprocess.run([promtool, *arguments], check=False).returncode != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
