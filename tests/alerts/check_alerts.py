"""The shipped alerts load, and with the shipped configuration too; they fire when they must and not otherwise, name only
metrics that evictd exports, and are explained in docs/operations.md. Exit code 77: there is no promtool (Debian package prometheus)."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
CONFIGURATION = ROOT / "deploy/prometheus/prometheus.yaml"
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


def loads_the_alerts(promtool):
    """promtool says of each rule file how many rules it found; a file that is not named is not looked at."""
    checked = subprocess.run([promtool, "check", "config", str(CONFIGURATION)], capture_output=True, text=True, check=False)
    expected = len(re.findall(r"^ *- alert: ", ALERTS.read_text(), re.MULTILINE))
    if checked.returncode == 0 and f"Checking {ALERTS}\n  SUCCESS: {expected} rules found" in checked.stdout:
        return True
    print(f"{CONFIGURATION}: expected it to load the {expected} alerts of {ALERTS.name}:\n{checked.stdout}{checked.stderr}")
    return False


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
    if not loads_the_alerts(promtool):
        return 1
    for arguments in (["check", "rules", str(ALERTS)], ["test", "rules", str(PLAYED)]):
        if subprocess.run([promtool, *arguments], check=False).returncode != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
