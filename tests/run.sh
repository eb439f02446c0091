#!/usr/bin/env bash
# Installs what is missing, builds, runs every test this machine can run. ctest's own summary is the last
# thing printed, after it what failed and what was not run within the entries that hold many tests, and its exit code is ours.
#
#   --quick          leave out the tests that start servers for longer than a moment
#   --soak           the fault scenarios for minutes instead of seconds
#   --fuzz SECONDS   also run each fuzz target that long with clang's engine
#   --matrix         after them, the tests that speak to servers against other versions: PostgreSQL 14 to 18,
#                    Redis 8, Valkey 9 (a short part of that runs always)
#   --sanitize       build and run with the address and undefined-behaviour sanitizers (preset asan)
#   --sanitize=thread  the same with the thread sanitizer (preset tsan)
#
# EVICTD_REQUIRE_SERVERS=1: a server that is missing is a failure instead of a skip.
# EVICTD_REQUIRE_KAFKA=1: the same for Kafka, Debezium (from Maven Central) and MariaDB.
# EVICTD_SEED=N: the seed of randomized tests; without it each picks one and prints it.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"
}

preset=dev
groups=(build test servers kafka browser)
selection=()
fuzz_seconds=0
matrix=0
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) selection=(--label-exclude 'integration|faults|slow') ;;
    --matrix) matrix=1; groups+=(matrix) ;;
    --soak) export EVICTD_SOAK=1 ;;
    --fuzz)
      fuzz_seconds=${2:-}
      case "$fuzz_seconds" in
        ''|*[!0-9]*) echo "run.sh: --fuzz expects a number of seconds, got '$fuzz_seconds'" >&2; exit 2 ;;
      esac
      groups+=(fuzz)
      shift ;;
    --sanitize) preset=asan ;;
    --sanitize=thread) preset=tsan ;;
    --help|-h) usage; exit 0 ;;
    *) echo "run.sh: unknown option '$1'" >&2; echo "hint: tests/run.sh --help" >&2; exit 2 ;;
  esac
  shift
done

say() { printf '== %s\n' "$*"; }

say "packages"
if ! deploy/packages.sh install "${groups[@]}"; then
  if [ "${EVICTD_REQUIRE_SERVERS:-0}" = 1 ]; then
    echo "run.sh: the packages above are required here" >&2
    exit 1
  fi
  say "going on with what is installed; tests whose server is missing are skipped and say so"
fi

say "build (preset $preset)"
cores=$(nproc)
log=build/$preset/configure.log
mkdir -p "build/$preset"
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
# Some of these files take 1 GiB to compile: a machine short of memory gets fewer at a time.
memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$cores
if [ "$memory_gib" -lt "$jobs" ]; then jobs=$((memory_gib > 0 ? memory_gib : 1)); fi
cmake --build --preset "$preset" -j "$jobs"

if [ "$fuzz_seconds" -gt 0 ]; then
  say "fuzz ($fuzz_seconds s for each target)"
  tests/fuzz/run.sh "$fuzz_seconds"
fi

say "tests"
# Two at a time even on larger machines: the tests with servers run several busy processes each, and count for two. Of those that
# mostly wait, four.
code=0
ctest --preset "$preset" --parallel 4 --no-tests=error "${selection[@]}" || code=$?
if [ "$code" != 0 ]; then
  grep -E '^(FAILED|ERROR) tests/|^E  ' "build/$preset/Testing/Temporary/LastTest.log" | cut -c1-300 | tail -n 40 || true
fi
skipped=$(grep -E '^SKIPPED \[' "build/$preset/Testing/Temporary/LastTest.log" | sort -u | cut -c1-300 || true)
if [ -n "$skipped" ]; then
  say "not run, within the entries that hold many tests"
  echo "$skipped"
fi
if [ "$matrix" = 1 ]; then
  say "matrix"
  EVICTD_BINARY_DIR=$PWD/build/$preset /usr/bin/python3 tests/matrix/matrix.py --all || code=$?
fi
exit "$code"
