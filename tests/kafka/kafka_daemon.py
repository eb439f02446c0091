"""evictd reading from Kafka, and when it has caught up."""

import json
import os

from harness import daemon, oracle, process
from harness.waiting import eventually


class KafkaEvictd(daemon.Evictd):
    """One daemon of a consumer group."""

    def __init__(self, folder, kafka, redis_url, rules, *, topics=("^shop[.]public[.]",), group="evictd", kafka_more="",
                 redis_more="", properties=None, program="evictd", caches=None):  # pylint: disable=super-init-not-called
        """`caches`: what stands below 'caches:', indented; instead of `redis_url`."""
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.program = daemon.binary(program)
        self.port = process.free_port()
        self.log = f"{folder}/evictd.log"
        self.config = f"{folder}/evictd.yaml"
        self.rules = f"{folder}/rules.yaml"
        self.group = group
        self.process = None
        self.write_rules(rules)
        settings = {"topic.metadata.refresh.interval.ms": "1000", "session.timeout.ms": "6000",
                    "heartbeat.interval.ms": "500", **(properties or {})}
        cache = f"caches:\n{caches}" if caches else f"redis:\n  url: {redis_url}\n" + "".join(f"  {line}\n" for line in redis_more.splitlines())
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"kafka:\n  brokers: {kafka.brokers}\n  group: {group}\n"
                       f"  topics: [{', '.join(repr(topic) for topic in topics)}]\n"
                       "  properties:\n" + "".join(f"    {name}: '{value}'\n" for name, value in settings.items()) +
                       "".join(f"  {line}\n" for line in kafka_more.splitlines()) +
                       cache +
                       f"http:\n  listen: 127.0.0.1:{self.port}\nlog: {{level: info, format: text}}\nrules: rules.yaml\n")


def findings(one):
    """What `evictd check` finds of Kafka. -> [(id, severity, object, cause)], the finished process"""
    done = one.command("check", "--json")
    sections = json.loads(done.stdout)
    found = []

    def collect(node):
        if isinstance(node, dict):
            if str(node.get("id", "")).startswith("KF"):
                found.append((node["id"], node.get("severity"), node.get("object", ""), node.get("cause", "")))
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(sections)
    return found, done


def wait_for_debezium(postgres, slot="debezium_shop", seconds=60, database="shop"):
    """Everything committed until now is in Kafka: Debezium has moved its slot past it."""
    oracle.wait_until_acknowledged(postgres, slot, seconds, database)


def wait_for_daemons(daemons, seconds=60, client=None, prefix=None):
    """The group has read and finished everything that is in its topics: by their own account, and with a client by
    the offsets that Kafka has."""

    def caught_up():
        lag = 0
        for one in daemons:
            assert one.is_running(), one.log_tail()
            metrics = one.metrics()
            lag += metrics.sum("evictd_kafka_lag_messages")
            assert metrics.get("evictd_inflight_transactions") == 0, "transactions are unfinished"
            assert not metrics.get("evictd_gap_unresolved"), "a gap is unresolved"
        assert lag == 0, f"{lag:g} records are not acknowledged"
        if client is not None:
            for topic, partitions in client.topics().items():
                if topic.startswith(prefix):
                    for at, (committed, _, high) in enumerate(client.offsets(daemons[0].group, topic, partitions)):
                        assert high == 0 or committed >= high, f"{topic}[{at}]: committed {committed} of {high}"
        return True

    eventually("the daemons have caught up", caught_up, seconds, every=0.1)
