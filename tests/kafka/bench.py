"""Events applied per second through Kafka, one partition, one key per event, 1 KB of row, against librdkafka's own consumer
that throws the same topic away, and against what teams write: a Python loop with json and redis-py's DEL. (Debian has no
Python client for Kafka: kafka_tool hands the loop its values by a pipe.) Besides, the processor time of an event, by process
and, for evictd, by thread: on two cores all of them share what there is.

    EVICTD_BINARY_DIR=build/release /usr/bin/python3 tests/kafka/bench.py [--records N] [--rounds N] [--schema off|on]
"""

import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(os.path.abspath(__file__))]

import parts  # noqa: E402
from harness import daemon, process, servers  # noqa: E402
from harness.waiting import eventually  # noqa: E402
from kafka_daemon import KafkaEvictd  # noqa: E402

RULES = "defaults: {fill: plain}\nrules: [{table: public.items, keys: ['item:{id}']}]\n"


def values(count, with_schema):
    row = {"id": 0, "name": "x" * 300, "text": "y" * 300}
    kinds = {"id": "int64", "name": "string", "text": "string"}
    fields = [{"type": kinds[name], "optional": name != "id", "field": name} for name in row]
    schema = {"type": "struct", "optional": False, "name": "shop.public.items.Envelope", "fields": [
        {"type": "struct", "fields": fields, "optional": True, "field": "before"},
        {"type": "struct", "fields": fields, "optional": True, "field": "after"}]}
    source = {"version": "3.1.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1700000000000, "snapshot": "false",
              "db": "shop", "sequence": "[\"1\",\"2\"]", "schema": "public", "table": "items", "txId": 0, "lsn": 1, "xmin": None}
    for number in range(count):
        payload = {"before": None, "after": {**row, "id": number}, "source": {**source, "txId": 1000 + number},
                   "transaction": None, "op": "u", "ts_ms": 1700000000001}
        whole = {"schema": schema, "payload": payload} if with_schema else payload
        yield json.dumps({"id": number}).encode(), json.dumps(whole, separators=(",", ":")).encode()


def cpu_seconds(path):
    with open(f"{path}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def evictd_seconds(one, records, others):
    """From the first key invalidated to the last, and what each process used of the processors, in seconds."""
    def applied():
        code, text = one.http("/metrics")
        return daemon.Metrics(text).sum("evictd_invalidations_total", kind="key") if code == 200 else 0

    before = {name: cpu_seconds(f"/proc/{other.pid}") for name, other in others.items()}
    one.start(ready=False)
    done = eventually("the first is applied", applied, 60, every=0.002)
    first = time.monotonic()
    eventually("all are applied", lambda: applied() >= records, 600, every=0.01)
    seconds = time.monotonic() - first
    # The loop is the main thread; the others are librdkafka's.
    threads = {path: cpu_seconds(path) for path in glob.glob(f"/proc/{one.process.pid}/task/*")}
    loop = cpu_seconds(f"/proc/{one.process.pid}/task/{one.process.pid}")
    used = {"evictd": loop, "librdkafka": sum(threads.values()) - loop,
            **{name: cpu_seconds(f"/proc/{other.pid}") - before[name] for name, other in others.items()}}
    one.kill()
    return seconds * records / max(1, records - done), used


def python_loop_seconds(client, kafka, topic, cache, records):
    with subprocess.Popen([client.program, kafka.brokers, "cat", topic, str(records)], stdout=subprocess.PIPE) as cat:
        begin = None
        for line in cat.stdout:
            begin = begin or time.monotonic()
            event = json.loads(line)
            event = event.get("payload", event)
            cache.delete(f"item:{event['after']['id']}")
        return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--schema", choices=["off", "on"], action="append")
    options = parser.parse_args()
    records = options.records
    folder = process.temporary_folder("evictd-bench-")
    try:
        parts.fetch()
        kafka = parts.Kafka(f"{folder}/kafka").start()
        redis = servers.Redis(f"{folder}/redis").start()
        client = parts.Client(kafka.brokers)
        print("schema  librdkafka alone          evictd  ratio   Python loop   us of processor per event", flush=True)
        for schema in options.schema or ["off", "on"]:
            topic = f"shop_{schema}.public.items"
            client.create(topic, 1)
            client.produce(topic, values(records, schema == "on"), partition=0)
            alone, ours, used = [], [], {}
            for number in range(options.rounds):
                group = f"{topic}.{number}"
                # Each round is a new group that has everything still to read.
                client.commit(group, topic, 0, 0)
                one = KafkaEvictd(f"{folder}/{group}", kafka, redis.url(), RULES, topics=[topic], group=group)
                alone.append(client.drain(topic, records))
                seconds, used = evictd_seconds(one, records, {"redis": redis.process, "kafka": kafka.process})
                ours.append(seconds)
                redis.client().flushall()
            few = min(records, 30_000)
            loop = python_loop_seconds(client, kafka, topic, redis.client(), few)
            alone_median, our_median = statistics.median(alone), statistics.median(ours)
            print(f"{schema:6}  {records / alone_median:14.0f} /s  {records / our_median:11.0f} /s {alone_median / our_median:6.2f} "
                  f"{few / loop:10.0f} /s   " + ", ".join(f"{name} {spent / records * 1e6:.2f}" for name, spent in used.items()),
                  flush=True)
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
