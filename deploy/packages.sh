#!/usr/bin/env bash
# The Debian packages evictd needs, and the one place that names them: tests/run.sh, deploy/demo.sh and
# deploy/Dockerfile all come here.
#
#   deploy/packages.sh list GROUP...       prints the names
#   deploy/packages.sh missing GROUP...    prints those that are not installed
#   deploy/packages.sh install GROUP...    installs those by apt, as root or with sudo; nothing to do is quick
#
# Groups: build    compiler and libraries, and what packs the result
#         test     test libraries and tools
#         servers  PostgreSQL, Redis and what drives them in tests and the demo
#         kafka    what fetches and runs Apache Kafka, Debezium and MariaDB in their tests, and compiles readers in Java
#         fuzz     clang with its fuzzing engine
#         browser  a browser without a window, for the tests of the status page
#         matrix   what fetches other versions of the servers
#         package  what makes a scratch root and boots it, for the tests of the package
#         run      the shared libraries of a built evictd
set -euo pipefail

packages_of() {
  case "$1" in
    build)
      echo g++ cmake ninja-build pkg-config \
        libpq-dev libssl-dev libcurl4-openssl-dev librdkafka-dev \
        libyaml-cpp-dev libsimdjson-dev libcli11-dev libfmt-dev libexpected-dev \
        prometheus-cpp-dev libcivetweb-dev zlib1g-dev dpkg-dev file ;;
    test) echo libgtest-dev libgmock-dev librapidcheck-dev libhiredis-dev liblua5.1-0-dev python3 python3-pytest python3-venv python3-jsonschema python3-yaml python3-numpy curl prometheus spin gcc zsh fish php-cli php-redis php-pgsql
      # Debian's npm and the Node of others exclude each other: what is there serves. So does another Go than Debian's.
      command -v npm >/dev/null || echo nodejs npm
      command -v go >/dev/null || echo golang-go ;;
    servers) echo postgresql redis-server varnish varnish-modules libfaketime python3 python3-psycopg2 python3-redis ;;
    kafka) echo default-jdk-headless maven mariadb-server ;;
    fuzz) echo clang-14 libclang-rt-14-dev ;;
    browser) echo chromium fonts-dejavu-core ;;
    matrix) echo python3-venv
      command -v npm >/dev/null || echo nodejs npm ;;
    package) echo debootstrap systemd-container ;;
    run)
      echo libpq5 libssl3 libcurl4 librdkafka1 libyaml-cpp0.7 libsimdjson14 \
        libfmt9 libprometheus-cpp-core1.0 ca-certificates ;;
    *)
      echo "packages.sh: unknown group '$1', expected build, test, servers, kafka, fuzz, browser, matrix, package or run" >&2
      exit 2 ;;
  esac
}

list() {
  local group
  for group in "$@"; do packages_of "$group"; done | tr ' ' '\n' | sort -u
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing() {
  local name
  for name in $(list "$@"); do is_installed "$name" || echo "$name"; done
}

# Debian starts a server as soon as its package is installed, and a postgresql package makes a cluster of
# its own. evictd's tests and demo start private servers on free ports, so while apt runs nothing may be
# started or stopped; a policy that is there already is left alone.
policy=/usr/sbin/policy-rc.d
with_services_left_alone() {
  if [ -e "$policy" ]; then
    "$@"
    return
  fi
  local status=0
  printf '#!/bin/sh\n# Made by evictd while it installs packages; removed afterwards.\nexit 101\n' |
    as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  trap 'as_root rm -f "$policy"' EXIT
  "$@" || status=$?
  as_root rm -f "$policy"
  trap - EXIT
  return "$status"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
  local log status=0
  log=$(mktemp)
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" \
    >"$log" 2>&1 || status=$?
  # apt has much to say that interests nobody, unless it fails.
  [ "$status" = 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

update_and_install() {
  # Fresh machines have no package lists, and old lists name files that are gone. A third-party source that
  # cannot be reached makes the update fail without being needed: the install decides.
  echo "packages: refreshing apt's package lists" >&2
  as_root apt-get update -qq -o DPkg::Lock::Timeout=300 >&2 || echo "packages: apt-get update reported errors, going on" >&2
  apt_install "$@"
}

has_candidates() {
  local name candidate
  for name in "$@"; do
    candidate=$(apt-cache policy "$name" 2>/dev/null | sed -n 's/^ *Candidate: //p')
    [ -n "$candidate" ] && [ "$candidate" != "(none)" ] || return 1
  done
}

install() {
  local wanted
  wanted=$(missing "$@")
  [ -n "$wanted" ] || return 0
  wanted=$(echo "$wanted" | tr '\n' ' ')
  echo "packages: installing ${wanted% }" >&2
  if ! command -v apt-get >/dev/null; then
    echo "packages: there is no apt-get here; install what corresponds to these Debian 12 packages by hand" >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "packages: neither root nor sudo; as root run: apt-get install ${wanted% }" >&2
    return 1
  fi
  # shellcheck disable=SC2086  # one argument per package
  if has_candidates $wanted; then
    with_services_left_alone apt_install $wanted || with_services_left_alone update_and_install $wanted
  else
    with_services_left_alone update_and_install $wanted
  fi
  echo "packages: installed; the system's own PostgreSQL and Redis services were not started" >&2
}

if [ $# -lt 2 ]; then
  echo "usage: deploy/packages.sh list|missing|install GROUP..." >&2
  exit 2
fi
command=$1
shift
for group in "$@"; do packages_of "$group" >/dev/null; done
if [ "$command" != list ] && ! command -v dpkg-query >/dev/null; then
  echo "packages.sh: this is not a Debian system; it needs what corresponds to:" $(list "$@") >&2
  exit 1
fi
case "$command" in
  list) list "$@" ;;
  missing) missing "$@" ;;
  install) install "$@" ;;
  *)
    echo "packages.sh: unknown command '$command', expected list, missing or install" >&2
    exit 2 ;;
esac
