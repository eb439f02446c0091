"""Events applied per second through Kafka, one partition, one key per event, events of 1 KB, against librdkafka's own consumer
that throws the same topic away, and against what teams write: a Python loop with json and redis-py's DEL. (Debian has no
Python client for Kafka: kafka_tool hands the loop its values by a pipe.) Each event has a key of its own, once while
Redis has a value under it and once while it has none; then the same with a thousand keys that change over and over. Besides, the processor time of an event, by
process and, for evictd, by thread: on two cores all of them share what there is. Then three daemons of one group on twelve
partitions.

    tests/bench/run.sh --case kafka [--records N] [--rounds N] [--schema off|on] [--keys N] [--quick] [--json PATH]
"""

import argparse
import glob
import itertools
import json
import os
import shutil
import signal
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


def values(server, count, with_schema, keys):
    row = {"id": 0, "name": "x" * 300, "text": "y" * 300}
    kinds = {"id": "int64", "name": "string", "text": "string"}
    fields = [{"type": kinds[name], "optional": name != "id", "field": name} for name in row]
    schema = {"type": "struct", "optional": False, "name": f"{server}.public.items.Envelope", "fields": [
        {"type": "struct", "fields": fields, "optional": True, "field": "before"},
        {"type": "struct", "fields": fields, "optional": True, "field": "after"}]}
    now = int(time.time() * 1000)
    source = {"version": "3.1.0.Final", "connector": "postgresql", "name": server, "ts_ms": now, "snapshot": "false",
              "db": "shop", "sequence": "[\"1\",\"2\"]", "schema": "public", "table": "items", "txId": 0, "lsn": 1, "xmin": None}
    for number in range(count):
        key = number % keys
        payload = {"before": None, "after": {**row, "id": key}, "source": {**source, "txId": 1000 + number},
                   "transaction": None, "op": "u", "ts_ms": now + 1}
        whole = {"schema": schema, "payload": payload} if with_schema else payload
        yield json.dumps({"id": key}).encode(), json.dumps(whole, separators=(",", ":")).encode()


def cpu_seconds(path):
    with open(f"{path}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def begin(folder, kafka, redis, topic, number):
    """A group that has begun before there was a record in the topic, and has everything still to read."""
    one = KafkaEvictd(folder, kafka, redis.url(number), RULES, topics=[topic], group=f"{topic}.{number}")
    one.start()
    eventually("the group holds the partition", lambda: one.metrics().get("evictd_active") == 1, 60)
    assert one.stop() == 0
    return one


def evictd_seconds(one, records, others):
    """From the first change taken to the last applied, and what each process used of the processors, in seconds."""
    def taken():
        code, text = one.http("/metrics")
        return daemon.Metrics(text).sum("evictd_changes_total") if code == 200 else 0

    def is_done():
        # Each record is a transaction of its own, and is counted when it is applied.
        return daemon.Metrics(one.http("/metrics")[1]).sum("evictd_invalidation_latency_seconds_count") >= records

    before = {name: cpu_seconds(f"/proc/{other.pid}") for name, other in others.items()}
    one.start(ready=False)
    eventually("the first is taken", taken, 60, every=0.002)
    first = time.monotonic()
    eventually("all are applied", is_done, 600, every=0.01)
    seconds = time.monotonic() - first
    assert one.metrics().sum("evictd_gaps_total") == 0, f"a gap was repaired instead of changes applied:\n{one.log_tail()}"
    # The loop is the main thread; the others are librdkafka's.
    threads = {path: cpu_seconds(path) for path in glob.glob(f"/proc/{one.process.pid}/task/*")}
    loop = cpu_seconds(f"/proc/{one.process.pid}/task/{one.process.pid}")
    used = {"evictd": loop, "librdkafka": sum(threads.values()) - loop,
            **{name: cpu_seconds(f"/proc/{other.pid}") - before[name] for name, other in others.items()}}
    one.kill()
    return seconds, used


def produce(client, topic, server, records, with_schema, keys, partitions=1):
    lines = values(server, records, with_schema, keys)
    while some := list(itertools.islice(lines, 50_000)):
        for partition in range(partitions) if partitions > 1 else [0]:
            client.produce(topic, some[partition::partitions], partition=partition)


def three_daemons(folder, kafka, redis, client, records):
    """A group of three that has everything still to read on twelve partitions. -> seconds, each one's share"""
    topic = "shop_group.public.items"
    client.create(topic, 12)
    # Nobody is expelled while they stand still.
    patience = {"session.timeout.ms": "300000", "max.poll.interval.ms": "300000"}
    daemons = [KafkaEvictd(f"{folder}/{topic}.{number}", kafka, redis.url(15), RULES, topics=[topic], group=topic,
                           properties=patience) for number in range(3)]
    for one in daemons:
        one.start(ready=False)
    eventually("each holds four", lambda: sorted(len(held) for _, held in client.members(topic)) == [4, 4, 4], 120, every=0.2)
    eventually("each is ready", lambda: all(one.http("/readyz")[0] == 200 for one in daemons), 60, every=0.2)
    for one in daemons:
        one.signal(signal.SIGSTOP)
    produce(client, topic, "shop_group", records, False, records, 12)
    for one in daemons:
        one.signal(signal.SIGCONT)

    def applied():
        return [one.metrics().sum("evictd_invalidations_total", kind="key") for one in daemons]

    begin = time.monotonic()
    eventually("all are applied", lambda: sum(applied()) >= records, 600, every=0.02)
    seconds = time.monotonic() - begin
    shares = [each / records for each in applied()]
    for one in daemons:
        one.kill()
    return seconds, shares


def cache_values(cache, keys):
    """Every value that the events will delete."""
    with cache.pipeline(transaction=False) as pipe:
        for key in range(keys):
            pipe.set(f"item:{key}", "v" * 100)
            if key % 10_000 == 9_999:
                pipe.execute()
        pipe.execute()


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
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--schema", choices=["off", "on"], action="append")
    parser.add_argument("--keys", type=int, help="each event changes one of so many keys, and nothing else is measured")
    parser.add_argument("--case", choices=["kafka"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.quick:
        options.records, options.rounds = 50_000, 1
    report = {"records": options.records, "cores": os.cpu_count()}
    records = options.records
    folder = process.temporary_folder("evictd-bench-")
    try:
        parts.fetch()
        kafka = parts.Kafka(f"{folder}/kafka").start()
        redis = servers.Redis(f"{folder}/redis").start()
        client = parts.Client(kafka.brokers)
        print("schema       keys  values  librdkafka alone          evictd  ratio   Python loop   us of processor per event", flush=True)
        cases = [(schema, options.keys or records, cached) for schema in options.schema or ["off", "on"] for cached in (False, True)]
        if not options.keys and not options.schema:
            cases.append(("off", 1000, True))
        for schema, keys, cached in cases:
            server = f"shop_{schema}_{keys}_{'cached' if cached else 'absent'}"
            topic = f"{server}.public.items"
            client.create(topic, 1)
            daemons = [begin(f"{folder}/{topic}.{number}", kafka, redis, topic, number) for number in range(options.rounds)]
            produce(client, topic, server, records, schema == "on", keys)
            alone, ours, used = [], [], {}
            for number, one in enumerate(daemons):
                alone.append(client.drain(topic, records))
                if cached:
                    cache_values(redis.client(number), keys)
                seconds, used = evictd_seconds(one, records, {"redis": redis.process, "kafka": kafka.process})
                ours.append(seconds)
                redis.client(number).flushdb()
            few = min(records, 30_000)
            loop = python_loop_seconds(client, kafka, topic, redis.client(), few)
            alone_median, our_median = statistics.median(alone), statistics.median(ours)
            print(f"{schema:6} {keys:10}  {'cached' if cached else 'absent'}  {records / alone_median:14.0f} /s  {records / our_median:11.0f} /s "
                  f"{alone_median / our_median:6.2f} {few / loop:10.0f} /s   " +
                  ", ".join(f"{name} {spent / records * 1e6:.2f}" for name, spent in used.items()), flush=True)
            report[f"schema_{schema}_keys_{keys}_{'cached' if cached else 'absent'}"] = {
                "librdkafka_per_second": records / alone_median, "evictd_per_second": records / our_median,
                "ratio": alone_median / our_median, "python_loop_per_second": few / loop,
                "cpu_us_per_event": {name: spent / records * 1e6 for name, spent in used.items()}}
            client.delete(topic)
        if not options.keys:
            seconds, shares = three_daemons(folder, kafka, redis, client, records)
            print(f"three daemons, twelve partitions: {records / seconds:,.0f} events/s, shares " +
                  ", ".join(f"{share:.3f}" for share in shares), flush=True)
            report["three_daemons"] = {"per_second": records / seconds, "shares": shares}
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=2)
                file.write("\n")
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
