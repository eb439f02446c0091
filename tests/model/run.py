#!/usr/bin/python3
"""Searches the protocol models with spin, and proves that the searches can fail.

    run.py [model ...]     the models to run: checked, timed, plain, tags, join, via, lazy, rows, lease, epoch (default: all)
    run.py --trace NAME    one run by its name, with its trace

Three kinds of runs. `holds`: an exhaustive search that must find no violated assertion. `breaks`: the same model with
one guarantee left out, whose counterexample must be found, and must violate the assertion that is named. `reaches`: a
`holds` run with an assertion that a certain place is never reached, which must fail: so the search was not empty.

Exit code 77 when spin or gcc is missing (1 when EVICTD_REQUIRE_SERVERS=1).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY_MIB_MAX = 2048
SECONDS_MAX = 300  # for one search on a busy machine; see README.md for what they take
DEPTH_MAX = 2_000_000


@dataclass
class Run:
    model: str
    name: str
    switches: str
    violates: str = ""  # part of the violated assertion; empty: nothing may be violated

    @property
    def kind(self):
        return "holds" if not self.violates else "reaches" if "REACH" in self.switches else "breaks"


# What an assertion looks like in pan's own words.
STALE = r"~\(content\)|>>\(content"
STRANDED = r"member"
TOO_LONG = r"visible_for"
REPLAYED = r"rec_applied"
EPOCH = r"repaired"
DERIVED = r"acknowledged"


def holds(model, name, switches="", reaches=()):
    """A search that must find nothing, and the places it must have been to (numbered in the model)."""
    yield Run(model, name, switches)
    for place in reaches:
        yield Run(model, f"{name}, place {place}", f"{switches} -DREACH={place}", rf"{place}!={place}")


def breaks(model, name, switches, violates=STALE):
    yield Run(model, name, switches, violates)


def flatten(*runs):
    return [run for group in runs for run in group]


RUNS = flatten(
    # The marker table.
    holds("checked", "one primary", "", reaches=(2, 3, 4, 5, 6, 7)),
    holds("checked", "overflow", "-DCAP=1", reaches=(1,)),
    holds("checked", "overflow into a snapshot", "-DCAP=1 -DCOMPACT", reaches=(1, 8)),
    holds("checked", "readers on a standby", "-DSTANDBY", reaches=(4, 5, 6)),
    holds("checked", "standby and overflow", "-DSTANDBY -DCAP=1 -DREADERS=1", reaches=(1,)),
    holds("checked", "standby and overflow into a snapshot", "-DSTANDBY -DCAP=1 -DCOMPACT -DREADERS=1", reaches=(8,)),
    breaks("checked", "an LSN as the token", "-DLSN_TOKEN"),
    breaks("checked", "skip what is not newer than the last", "-DORDER_SKIP"),
    breaks("checked", "a tombstone without its set", "-DONE_XID"),
    breaks("checked", "no floor on overflow", "-DCAP=1 -DNO_FLOOR"),
    breaks("checked", "no renewal", "-DNO_RENEW"),
    breaks("checked", "several xids, any proof will do", "-DCOALESCE_ANY"),
    breaks("checked", "a fill over a newer fill", "-DFILL_OVER_FILLED"),
    breaks("checked", "the marker dies with its value", "-DMARKER_TTL_OF_VALUE"),
    breaks("checked", "standby, the tombstone forgets the fill", "-DSTANDBY -DNO_BASE"),
    # Settle and renew.
    holds("timed", "plain, settled", "-DPLAIN", reaches=(4,)),
    holds("timed", "plain, slower settle", "-DPLAIN -DSETTLE=3 -DTTL=1"),
    holds("timed", "plain, three transactions", "-DPLAIN -DWRITERS=3 -DREADERS=1"),
    holds("timed", "plain, settled together", "-DPLAIN -DCOALESCE=1"),
    holds("timed", "plain, a settle left to a later one", "-DPLAIN -DLEAN=1"),
    holds("timed", "staleness is bounded", "-DPLAIN -DPROMPT"),
    holds("timed", "staleness is bounded, three transactions", "-DPLAIN -DPROMPT -DWRITERS=3 -DREADERS=1"),
    holds("timed", "staleness, settled together, no commit hangs", "-DPLAIN -DPROMPT -DSHOWN_SOON -DCOALESCE=2 -DWRITERS=3 -DREADERS=1 -DBOUND=3"),
    holds("timed", "checked, renewed", "-DCHECKED", reaches=(1, 2, 3, 5)),
    holds("timed", "checked, longer lives", "-DCHECKED -DTTL=3 -DMARGIN=2 -DREADERS=1"),
    holds("timed", "checked, kept markers are not lengthened", "-DCHECKED -DKEPT_LEFT_ALONE"),
    holds("timed", "checked, short fills, kept markers are lengthened", "-DCHECKED -DFILL_KEEPS_LIFE"),
    breaks("timed", "checked, short fills, nothing lengthened", "-DCHECKED -DFILL_KEEPS_LIFE -DKEPT_LEFT_ALONE"),
    breaks("timed", "plain, no settle", "-DPLAIN -DNO_SETTLE"),
    breaks("timed", "settle counts from the first delete", "-DPLAIN -DSETTLE_FROM_DELETE"),
    breaks("timed", "settle before it is visible", "-DPLAIN -DSETTLE_BLINDLY"),
    breaks("timed", "staleness is less than settle", "-DPLAIN -DPROMPT -DBOUND=1", TOO_LONG),
    breaks("timed", "settled together when all are due", "-DPLAIN -DPROMPT -DCOALESCE=1 -DBOUND=6", TOO_LONG),
    breaks("timed", "settled together when all visible are due", "-DPLAIN -DPROMPT -DCOALESCE=2", TOO_LONG),
    breaks("timed", "checked, no renewal", "-DCHECKED -DNO_RENEW"),
    breaks("timed", "checked, acknowledged without a last renewal", "-DCHECKED -DACK_UNRENEWED"),
    breaks("timed", "checked, a replay does not lengthen", "-DCHECKED -DREPLAY_LEFT_ALONE"),
    breaks("timed", "checked, the marker dies with its value", "-DCHECKED -DMARKER_TTL_OF_VALUE"),
    # Replays that positions know.
    holds("plain", "replays are known by the record", "", reaches=(1, 2, 3, 4)),
    breaks("plain", "what is received counts as applied", "-DAPPLIED_TOO_EARLY", REPLAYED),
    breaks("plain", "a replay owes no settle", "-DREPLAYS_OWE_NOTHING"),
    breaks("plain", "a replay deletes again", "-DREPLAYS_DELETE", REPLAYED),
    breaks("plain", "what the cache lost counts as done", "-DNOT_FORGOTTEN"),
    breaks("plain", "what follows a loss counts as all", "-DNO_HOLE"),
    # Tag sets.
    holds("tags", "checked fills", "-DCHECKED", reaches=(1, 2, 4, 5)),
    holds("tags", "checked fills, members get no tombstone", "-DCHECKED -DNO_MEMBER_TOMBSTONE"),
    holds("tags", "SET and SADD in one MULTI", "-DPLAIN -DMULTI", reaches=(2, 3)),
    holds("tags", "SET, then SADD", "-DPLAIN -DSET_THEN_SADD", reaches=(2, 3)),
    holds("tags", "SADD, then SET, members never removed", "-DPLAIN -DSADD_THEN_SET -DNEVER_SREM", reaches=(2,)),
    breaks("tags", "no tombstone on the tag", "-DCHECKED -DNO_TAG_TOMBSTONE", r"applied"),
    breaks("tags", "tombstone after the walk", "-DCHECKED -DTAG_TOMBSTONE_LAST"),
    breaks("tags", "a replayed tag is not walked again", "-DCHECKED -DTAG_REPLAY_SKIPS"),
    breaks("tags", "checked, kept members are removed", "-DCHECKED -DSREM_ALWAYS", STRANDED),
    breaks("tags", "checked, SREM apart from the delete", "-DCHECKED -DSREM_APART", STRANDED),
    breaks("tags", "plain, kept members are removed", "-DPLAIN -DMULTI -DSREM_ALWAYS", STRANDED),
    breaks("tags", "plain, SREM apart from the delete", "-DPLAIN -DSET_THEN_SADD -DSREM_APART", STRANDED),
    breaks("tags", "SADD, then SET", "-DPLAIN -DSADD_THEN_SET", STRANDED),
    breaks("tags", "SADD, then SET, removed in the settle walk", "-DPLAIN -DSADD_THEN_SET -DSREM_AT_SETTLE", STRANDED),
    breaks("tags", "no settle walk", "-DPLAIN -DMULTI -DNO_SETTLE_WALK"),
    # Tags in another slot than the key.
    holds("join", "tombstone, members, each member", "", reaches=(1, 2, 3, 4, 5, 6)),
    breaks("join", "a join does not look at the tombstone", "-DJOIN_UNCHECKED", r"content"),
    breaks("join", "the tombstone after the members", "-DTAG_TOMBSTONE_LAST", r"content"),
    breaks("join", "no tombstone on members without a value", "-DNO_MEMBER_TOMBSTONE", r"content"),
    breaks("join", "a walk takes memberships away", "-DWALK_TAKES_MEMBERS", STRANDED),
    breaks("join", "a membership ends with its value", "-DENDS_WITH_THE_VALUE", STRANDED),
    # Keys of joined tables.
    holds("via", "looked up when visible, former parents too", "", reaches=(1, 2, 3)),
    breaks("via", "looked up before it is visible", "-DLOOKED_UP_EARLY", DERIVED),
    breaks("via", "former parents are forgotten", "-DNO_FORMER", DERIVED),
    breaks("via", "a template mixes tables", "-DMIXED", DERIVED),
    # Lazy tags.
    holds("lazy", "the marker outlives the values", "", reaches=(2, 3, 4, 5, 6)),
    holds("lazy", "overflow", "-DCAP=1", reaches=(1,)),
    breaks("lazy", "tombstone_ttl only", "-DTTL_ONLY"),
    breaks("lazy", "a fill only lengthens what is there", "-DFILL_ONLY_EXTENDS"),
    breaks("lazy", "no floor on overflow", "-DCAP=1 -DNO_FLOOR"),
    # Row versions and leases.
    holds("rows", "versions that never restart", "", reaches=(1, 2, 3, 4)),
    breaks("rows", "versions restart after a delete", "-DRESTARTS"),
    breaks("rows", "a DELETE counts as its row's version", "-DDELETE_LIKE_UPDATE"),
    breaks("rows", "one version for two rows", "-DTWO_ROWS -DEVENTS=2"),
    holds("lease", "with settle", "", reaches=(1, 2, 3)),
    breaks("lease", "alone", "-DLEASE_ALONE"),
    breaks("lease", "longer than settle", "-DLONG_LEASE"),
    # A new epoch.
    holds("epoch", "purged twice", "", reaches=(1, 2, 3, 4, 5)),
    holds("epoch", "purged twice, trusted late", "-DTRUST_AFTER_REPAIR"),
    breaks("epoch", "purged once", "-DONE_PURGE", EPOCH),
    breaks("epoch", "the second purge removes markers", "-DPURGE_MARKERS", EPOCH),
)


class Broken(Exception):
    """The run itself went wrong, whatever the model says."""


def call(command, folder, seconds):
    try:
        return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds).stdout
    except subprocess.TimeoutExpired as error:
        raise Broken(f"'{command[0]}' took more than {seconds} s") from error


def search(run, folder):
    """(violated assertion or '', states stored, trace)."""
    switches = run.switches.split()
    source = f"{run.model}.pml"
    shutil.copy(HERE / source, folder)
    said = call(["spin", *switches, "-a", source], folder, 60)
    if "Error" in said or not (folder / "pan.c").exists():
        raise Broken(f"spin does not accept the model:\n{said}")
    # Breadth first finds the shortest counterexample; depth first needs less memory for a full search.
    ways = ["-O0", "-DBFS"] if run.violates else ["-O2"]
    compiler = ["ccache", "gcc"] if shutil.which("ccache") else ["gcc"]
    said = call([*compiler, "-w", "-DSAFETY", "-DNOFAIR", f"-DMEMLIM={MEMORY_MIB_MAX}", *ways, "-c", "-o", "pan.o", "pan.c"], folder, 120)
    said += call(["gcc", "-o", "pan", "pan.o"], folder, 60)
    if not (folder / "pan").exists():
        raise Broken(f"gcc does not accept spin's output:\n{said}")
    said = call(["./pan", "-E", "-n", f"-m{DEPTH_MAX}", "-w20" if run.violates else "-w24"], folder, SECONDS_MAX)
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    if not errors or not states:
        raise Broken(f"the search did not come to its end:\n{said}")
    if errors[1] == "0":
        if re.search(r"not completed|max search depth|out of memory|memory limit", said):
            raise Broken(f"the search was cut short:\n{said}")
        return "", int(states[1]), ""
    violated = re.search(r"assertion violated (.*?) \(at depth", said)
    lines = call(["spin", *switches, "-T", "-t", source], folder, 60).splitlines()
    ends = next((i for i, line in enumerate(lines) if line.startswith("spin:")), len(lines))
    trace = "\n".join(f"      {line.strip()}" for line in lines[:ends] if line.strip())
    return violated[1] if violated else said, int(states[1]), trace


def verdict(run, show_trace):
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="evictd-model-") as folder:
        try:
            violated, states, trace = search(run, Path(folder))
        except Broken as error:
            print(f"FAILED {run.kind:7} {run.model}: {run.name} [{run.switches.strip()}]\n{error}", flush=True)
            return False
    if run.violates:
        good = bool(re.search(run.violates, violated))
        problem = "" if good else f"expected a violation of '{run.violates}', got {violated or 'none'}"
    else:
        good = not violated
        problem = "" if good else f"violated: {violated}"
    seconds = time.monotonic() - began
    print(f"{'ok    ' if good else 'FAILED'} {run.kind:7} {run.model}: {run.name} [{run.switches.strip()}] {states} states, {seconds:.1f} s", flush=True)
    if problem:
        print(f"  {problem}", flush=True)
    if trace and (show_trace or not good or run.kind == "breaks"):
        print(trace, flush=True)
    return good


def main():
    models = sorted({run.model for run in RUNS})
    parser = argparse.ArgumentParser(description="Searches the protocol models with spin.")
    parser.add_argument("models", nargs="*", metavar="model", help=", ".join(models))
    parser.add_argument("--trace", metavar="NAME", help="one run, with its trace")
    arguments = parser.parse_args()
    for model in arguments.models:
        if model not in models:
            parser.error(f"unknown model '{model}', expected one of {', '.join(models)}")
    for program in ("spin", "gcc"):
        if not shutil.which(program):
            required = os.environ.get("EVICTD_REQUIRE_SERVERS") == "1"
            print(f"{'failed' if required else 'skipped'}: '{program}' is not installed (Debian package '{program}')")
            return 1 if required else 77
    runs = [run for run in RUNS if not arguments.models or run.model in arguments.models]
    if arguments.trace:
        runs = [run for run in runs if run.name == arguments.trace]
        if not runs:
            parser.error(f"no run is called '{arguments.trace}'")
    began = time.monotonic()
    failed = [run for run in runs if not verdict(run, bool(arguments.trace))]
    kinds = {kind: sum(run.kind == kind for run in runs) for kind in ("holds", "breaks", "reaches")}
    print(
        f"{len(runs)} searches ({kinds['holds']} hold, {kinds['breaks']} break, {kinds['reaches']} reach), "
        f"{len(failed)} failed, {time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
