#!/bin/sh
# Drives every fuzz target with libFuzzer for SECONDS each, under address and undefined behaviour sanitizers.
#
#   tests/fuzz/run.sh SECONDS [TARGET]      TARGET: rules, rendering, ...; default: all
#
# What it finds on the way stays in build/fuzz/found/<target>/; a crash is written to build/fuzz/crashes/ and ends
# the run with exit code 1: add the file to tests/fuzz/corpus/<target>/ together with the fix.
set -eu
if [ $# -lt 1 ]; then
  echo "usage: tests/fuzz/run.sh SECONDS [TARGET]" >&2
  exit 2
fi
seconds=$1
only=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${EVICTD_FUZZ_BUILD:-$root/build/fuzz}
compiler=$(command -v clang++ || command -v clang++-14 || true)
if [ -z "$compiler" ]; then
  echo "tests/fuzz/run.sh: clang++ is not installed (Debian: apt-get install clang)" >&2
  exit 1
fi
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DEVICTD_FUZZER=ON \
  -DEVICTD_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
cmake --build "$build" --target fuzz_targets --parallel 2
mkdir -p "$build/crashes"
for source in "$here"/*_fuzz.cpp; do
  name=$(basename "$source" _fuzz.cpp)
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  target=$build/tests/fuzz/${name}_fuzz
  if [ ! -x "$target" ]; then
    echo "tests/fuzz/run.sh: $name is not part of this build" >&2
    continue
  fi
  echo "-- $name: $seconds s"
  mkdir -p "$build/found/$name"
  dictionary=""
  [ ! -f "$here/$name.dict" ] || dictionary="-dict=$here/$name.dict"
  # shellcheck disable=SC2086  # no dictionary: no argument
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" $dictionary \
    "$build/found/$name" "$here/corpus/$name"
done
