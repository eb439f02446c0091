#!/usr/bin/env bash
# Measures a release build of evictd beside pg_recvlogical reading the same slot contents, on this machine,
# in one run. Prints a table; --json PATH also writes every number. Nothing here passes or fails.
#
#   --rows N          rows of the one large transaction (1000000)
#   --transactions N  single-row transactions (500000)
#   --huge N          rows of the transaction for the memory measurement (5000000)
#   --rounds N        of each throughput case, in alternating order; medians are printed (3)
#   --seconds N       of the latency case (20)
#   --requests N      of each call in the readers case, 100000 at most (100000)
#   --case NAME       large, many, latency, memory, readers, rules, caches, cluster, derived, or yardstick (pg_recvlogical alone); may be repeated
#   --case kafka      by itself: events from a real Kafka, beside librdkafka's own consumer
#   --case scripts    by itself: what one key costs Redis, by call
#   --case row-tags   by itself: what tags cost Redis, by their number, members and lazy
#   --case sizing     by itself: bytes in Redis, on the network and in evictd, for docs/sizing.md
#   --case storm      by itself: a job rewrites 50,000 popular rows under 500 readers, with and without `refresh`
#   --case edge       by itself: what a Varnish behind Redis costs Redis's caches, alive and dead; 10,000 surrogate keys
#   --case semantic   by itself: invalidations by similarity in a vector set (--elements N, --invalidations N, --kept FILE)
#   --records N       of the kafka case (1000000)
#   --keys N          of the kafka case: events of so many keys that change over and over
#   --quick           a twentieth of everything, to see that it works
#   --json PATH
set -euo pipefail
cd "$(dirname "$0")/../.."
case " $* " in *" --help "*|*" -h "*) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"; exit 0 ;; esac
case " $* " in *" --case scripts "*) exec /usr/bin/python3 tests/bench/script_cost.py "$@" ;; esac
case " $* " in *" --case kafka "*) kafka=kafka ;; *) kafka= ;; esac
case " $* " in *" --case storm "*) storm=storm ;; *) storm= ;; esac
case " $* " in *" --case semantic "*) test=test ;; *) test= ;; esac
deploy/packages.sh install build servers $kafka $test
mkdir -p build/release
if [ -z "${EVICTD_BINARY_DIR:-}" ]; then
  # These cases need a small program of the tests.
  cmake --preset release ${kafka:+-DEVICTD_TESTS=ON} ${storm:+-DEVICTD_TESTS=ON} >build/release/configure.log 2>&1 ||
    { cat build/release/configure.log >&2; exit 1; }
  cmake --build --preset release --target evictd ${kafka:+kafka_tool} ${storm:+storm_readers} >&2
  export EVICTD_BINARY_DIR=$PWD/build/release
fi
case " $* " in *" --case semantic "*) exec /usr/bin/python3 tests/bench/semantic.py "$@" ;; esac
case " $* " in *" --case sizing "*) exec /usr/bin/python3 tests/bench/sizing.py "$@" ;; esac
case " $* " in *" --case edge "*) exec /usr/bin/python3 tests/bench/edge.py "$@" ;; esac
case " $* " in *" --case row-tags "*) exec /usr/bin/python3 tests/bench/row_tags.py "$@" ;; esac
if [ -n "$storm" ]; then exec /usr/bin/python3 tests/bench/storm.py "$@"; fi
if [ -n "$kafka" ]; then exec /usr/bin/python3 tests/kafka/bench.py "$@"; fi
exec /usr/bin/python3 tests/bench/bench.py "$@"
