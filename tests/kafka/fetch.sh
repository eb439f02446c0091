#!/usr/bin/env bash
# Copies Apache Kafka, Kafka Connect and the Debezium connectors (pom.xml) from Maven Central into a folder.
# Nothing to do when they are there already.
#
#   tests/kafka/fetch.sh FOLDER
set -euo pipefail
folder=$(realpath -m "${1:?usage: tests/kafka/fetch.sh FOLDER}")
pom=$(cd "$(dirname "$0")" && pwd)/pom.xml

# The mark says which pom the jars belong to.
mark=$folder/complete
wanted=$(sha256sum <"$pom")
if [ -e "$mark" ] && [ "$(cat "$mark")" = "$wanted" ]; then exit 0; fi
for program in mvn java; do
  if ! command -v "$program" >/dev/null; then
    echo "fetch.sh: no $program: deploy/packages.sh install kafka" >&2
    exit 1
  fi
done
[ ! -e "$mark" ] || rm -rf "$folder"
mkdir -p "$folder"
# Written to a file of its own: a second try then sees what the first one could not get.
for try in 1 2 3; do
  if mvn -q -B -U -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder" \
    >"$folder.log" 2>&1; then
    echo "$wanted" >"$mark"
    exit 0
  fi
  [ "$try" = 3 ] || sleep 5
done
echo "fetch.sh: Maven Central did not give everything; the end of $folder.log:" >&2
tail -n 5 "$folder.log" >&2
exit 1
