#!/usr/bin/env bash
# Shows evictd at work on this machine: installs what it needs, builds, starts a private PostgreSQL and a
# private Redis in a temporary folder on free ports, loads a small shop, and lets a reader, a writer and
# evictd run against it. Nothing outside the checkout and the temporary folder is changed but the packages
# it installs. Ctrl-C stops everything and removes the folder.
#
#   --once   ten seconds without a terminal; exit code 0 only if in the end every cached value equals its row
set -euo pipefail
cd "$(dirname "$0")/.."

for argument in "$@"; do
  case "$argument" in
    --once) ;;
    --help|-h) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown option '$argument'" >&2; echo "hint: deploy/demo.sh --help" >&2; exit 2 ;;
  esac
done

say() { printf '== %s\n' "$*"; }

say "packages: installing what is missing (apt)"
deploy/packages.sh install build servers

say "build: build/release/evictd (the first time takes minutes, later nothing)"
mkdir -p build/release
if ! cmake --preset release >build/release/configure.log 2>&1; then
  cat build/release/configure.log >&2
  exit 1
fi
cmake --build --preset release --target evictd

# The demo itself is Python with Debian's packages: whatever other Python is first on the PATH has not got
# them. It takes this process's place, so that signals reach it.
exec /usr/bin/python3 deploy/demo.py "$@"
