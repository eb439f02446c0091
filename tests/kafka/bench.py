"""Events applied per second through Kafka, one partition, one key per event, 1 KB of row, against librdkafka's own consumer
that throws the same topic away, and against what teams write: a Python loop with json and redis-py's DEL. (Debian has no
Python client for Kafka: kafka_tool hands the loop its values by a pipe.)

    EVICTD_BINARY_DIR=build/release /usr/bin/python3 tests/kafka/bench.py [RECORDS]
"""

import json
import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(os.path.abspath(__file__))]

import parts  # noqa: E402
from harness import process, servers  # noqa: E402
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


def evictd_seconds(one, records):
    """From the first change applied to the last."""
    one.start(ready=False)
    eventually("the first is applied", lambda: one.http("/metrics")[0] == 200 and
               one.metrics().sum("evictd_changes_total") > 0, 60, every=0.002)
    first, done = time.monotonic(), one.metrics().sum("evictd_changes_total")
    eventually("all are applied", lambda: one.metrics().sum("evictd_changes_total") >= records and
               one.metrics().get("evictd_lag_seconds") == 0, 600, every=0.01)
    seconds = time.monotonic() - first
    cpu = one.cpu_seconds()
    one.kill()
    return seconds * records / max(1, records - done), cpu


def main():
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    folder = process.temporary_folder("evictd-bench-")
    try:
        parts.fetch()
        kafka = parts.Kafka(f"{folder}/kafka").start()
        redis = servers.Redis(f"{folder}/redis").start()
        client = parts.Client(kafka.brokers)
        print("schema   librdkafka alone   evictd            ratio   cpu/event   Python loop", flush=True)
        for with_schema in (False, True):
            topic = f"shop{int(with_schema)}.public.items"
            client.create(topic, 1)
            # A first start commits the beginning, as nothing is there yet.
            one = KafkaEvictd(f"{folder}/evictd{int(with_schema)}", kafka, redis.url(), RULES, topics=[topic], group=topic)
            one.start()
            eventually("the beginning is committed", lambda topic=topic: client.offsets(topic, topic, 1)[0][0] == 0, 30, every=0.1)
            one.stop()
            client.produce(topic, values(records, with_schema), partition=0)
            alone = float(client._run("drain", topic, records, timeout=600))  # pylint: disable=protected-access
            seconds, cpu = evictd_seconds(one, records)
            few = min(records, 50_000)
            cat = subprocess.Popen([client.program, kafka.brokers, "cat", topic, str(few)], stdout=subprocess.PIPE)
            cache, begin = redis.client(), None
            for line in cat.stdout:
                begin = begin or time.monotonic()
                event = json.loads(line)
                event = event.get("payload", event)
                cache.delete(f"item:{event['after']['id']}")
            loop = few / (time.monotonic() - begin)
            cat.wait()
            print(f"{'on' if with_schema else 'off':6} {records / alone:12.0f} /s {records / seconds:12.0f} /s "
                  f"{alone / seconds:10.2f} {cpu / records * 1e6:8.2f} us {loop:9.0f} /s", flush=True)
            redis.client().flushall()
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
