"""The Kafka part of the demo: demo.sh --kafka. PostgreSQL -> Debezium -> Kafka -> two evictd of one group -> Redis."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until perform() knows better: Ctrl-C ends it without a word

import os
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [f"{ROOT}/tests", f"{ROOT}/tests/kafka"]
os.environ.setdefault("EVICTD_BINARY_DIR", f"{ROOT}/build/release")

import kafka_daemon  # noqa: E402
import parts  # noqa: E402
from demo_stage import every_second, perform, say, title  # noqa: E402
from harness import oracle, servers, shop  # noqa: E402

TABLES = ["products", "categories", "reviews", "orders", "settings"]


def demo(folder, once):
    title("servers: PostgreSQL, Redis, Kafka, Kafka Connect with Debezium (from Maven Central the first time)")
    parts.fetch()
    postgres = servers.Postgres(f"{folder}/postgres").start()
    shop.create(postgres, ROOT)
    redis = servers.Redis(f"{folder}/redis").start()
    kafka = parts.Kafka(f"{folder}/kafka").start()
    connect = parts.Connect(f"{folder}/connect", kafka).start()
    connect.add_postgres(postgres, table_include_list=",".join(f"public.{table}" for table in TABLES))
    # A topic comes with the first event of its table.
    postgres.execute("update products set name = name where id = 1; update categories set name = name where id = 1;"
                     "update reviews set body = body where id = 1; update orders set quantity = quantity where id = 1;"
                     "update settings set value = value where name = 'banner'")
    kafka_daemon.wait_for_debezium(postgres)
    say(f"PostgreSQL  psql {postgres.url()}\nRedis       redis-cli -p {redis.port}\nKafka       {kafka.brokers}\n"
        f"Connect     {connect.url}")

    title("two evictd of one consumer group, with deploy/rules.yaml")
    cache = redis.client()
    shop.plant_sentinels(cache)
    with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as file:
        rules = file.read()
    daemons = []
    for number in (1, 2):
        one = kafka_daemon.KafkaEvictd(f"{folder}/evictd{number}", kafka, redis.url(), rules, topics=["^shop[.]public[.]"],
                                       kafka_more=f"postgres_url: {postgres.url()}").start()
        daemons.append(one)
        say(f"status      http://127.0.0.1:{one.port}/   log {one.log}")

    title("writers and readers" + ("" if once else "; Ctrl-C stops"))
    running = shop.Shop(postgres, redis.client, seed=os.getpid(), writer_pause=0.005, reader_pause=0.001).start()
    say("second   writes/s   reads/s   deletes/s   records behind")
    before, counts = 0, (0, 0)

    def show(second):
        nonlocal before, counts
        seen = [one.metrics() for one in daemons]
        deletes = sum(one.sum("evictd_invalidations_total", outcome="deleted") for one in seen)
        behind = sum(one.sum("evictd_kafka_lag_messages") for one in seen)
        say(f"{second:6}   {running.writes - counts[0]:8}   {running.reads - counts[1]:7}   {deletes - before:9.0f}   {behind:14.0f}")
        before, counts = deletes, (running.writes, running.reads)

    every_second(once, show)

    title("the cache against the database")
    running.stop_writers()
    kafka_daemon.wait_for_debezium(postgres)
    kafka_daemon.wait_for_daemons(daemons, 60, parts.Client(kafka.brokers), "shop.public.")
    running.stop()
    values = oracle.assert_true_cache(postgres, cache)
    say(f"every one of {values} cached values equals its row; no other key was touched")
    for one in daemons:
        if one.stop() != 0:
            raise AssertionError(f"evictd ended badly:\n{one.log_tail()}")


if __name__ == "__main__":
    sys.exit(perform(demo))
