"""What evictd reads in a world: PostgreSQL's own stream, or Kafka with Debezium in front of it. A source says how a daemon is configured, what
is waited for at rest, and when a daemon's word about being current counts. Its faults say for themselves which source they are for."""

import os
import re
import sys
import threading
import types

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kafka"))

from harness import daemon, process  # noqa: E402
from harness.proxy import Proxy  # noqa: E402
from harness.waiting import eventually  # noqa: E402
import kafka_daemon  # noqa: E402
import parts  # noqa: E402


def assert_at_rest(one, may_be_idle=False):
    metrics = one.metrics()
    lag = metrics.get("evictd_lag_seconds")
    assert lag == 0 or (may_be_idle and lag is not None and lag > CURRENT_FOR), f"lag is {lag}"
    assert metrics.get("evictd_inflight_transactions") == 0, "transactions are unfinished"
    assert not metrics.get("evictd_gap_unresolved"), "a gap is unresolved"
    assert one.is_ready(), one.http("/readyz")


# Without any word from Kafka, evictd counts as current for so long (FlowOptions::current_for).
CURRENT_FOR = 30


class Postgres:
    faults = {"any", "postgres", "visibility"}
    asks_database = True
    slot = "evictd"
    rules = ""
    way = None  # its way is `to_postgres`
    delay = 0  # seconds that staleness may last longer because of what lies in front of evictd
    lag_green = 0.5
    patience = 100  # until it is at rest

    def __init__(self, world):
        self.world = world

    def start(self):
        pass

    def threads(self):
        return []

    def make_evictd(self, folder, caches):
        world = self.world
        return daemon.Evictd(folder, world.postgres.url(user="nemesis", port=world.to_postgres.port), None, world.rules,
                             postgres_more=f"password_file: {world.password_file}\nheartbeat: 1s\n", caches=caches, program=world.program)

    def is_current(self, _metrics):
        return True  # lag says it

    def silence(self, lasting=None):
        """A stream that is silent looks like an idle one, and counts as current for CURRENT_FOR."""
        self.world.allow("silence", 40, lasting)

    def change_hands(self):
        pass  # one daemon has the slot, and the others say so

    def wait_for_what_comes_before_evictd(self):
        pass

    def has_caught_up(self):
        postgres = self.world.postgres
        mark = postgres.value("select pg_logical_emit_message(true, 'test', 'mark')::text")

        def passed():
            row = postgres.execute("select confirmed_flush_lsn >= %s::pg_lsn, confirmed_flush_lsn::text from pg_replication_slots "
                                   "where slot_name = 'evictd'", (mark,))
            assert row and row[0][0], f"acknowledged {row and row[0][1]}, written {mark}"
            assert_at_rest(self.world.evictd)
            return True
        return eventually("acknowledged", passed, 60, every=0.05)

    def acknowledged_is_written(self):
        return self.world.postgres.value("select confirmed_flush_lsn <= pg_current_wal_lsn() from pg_replication_slots where slot_name = 'evictd'")


# Where nobody writes for so long, the watch does not believe that evictd is current. Consumer lag 0 does not say that Debezium runs: the age
# of the newest record does (docs/kafka.md).
AGE_GREEN = 2.0
PREFIX = "shop.public."
GROUP = "evictd"
SESSION = 6  # seconds
MARKS = 12
# One of each table of the rules, so that there is a topic of it. `marker` is written to all the time, in every partition.
KAFKA_SCHEMA = f"""
create table marker (id integer primary key, at text not null);
insert into marker select i, '-' from generate_series(1, {MARKS}) i;
"""
FIRST_EVENTS = ("update items set version = version; update notes set body = body; update settings set value = value; update lines set quantity = quantity; "
                "update labels set label = label; update parts set version = version; update marker set at = at")
TABLES = r"public\.(items|notes|settings|lines|labels|parts(_\w+)?|marker)"


def kafka_is_missing():
    """Why a world with Kafka cannot be made without fetching anything; None: it can."""
    if not os.path.exists(f"{parts.JARS}/complete"):
        return f"no Kafka in {parts.JARS}: tests/kafka/fetch.sh {parts.JARS}"
    try:
        parts.Client("")
    except AssertionError as error:
        return str(error)
    return None


def fetch_kafka():
    """Gets what can be got."""
    parts.fetch()


class Kafka:
    """PostgreSQL, Debezium on it, one broker. evictd reaches the broker by a listener of its own, which names the proxy as its address."""

    faults = {"any", "kafka", "visibility"}
    asks_database = True
    slot = "debezium_shop"
    # Of the tables that rules name; that of `marker` comes to these.
    tables = ("items", "notes", "settings", "lines", "labels", "parts_0", "parts_1")
    without_rules = ()
    rules = "- {name: marker, table: marker, keys: ['marker:{id}']}\n"
    # Debezium's delay is part of lag, and it shares two cores with everything here.
    delay = lag_green = AGE_GREEN
    patience = 200  # each gap of a cache costs a change of hands

    def __init__(self, world):
        self.world = world
        inner = process.free_port()
        self.way = Proxy(inner)
        self.broker = parts.Kafka(f"{world.folder}/kafka")
        settings = self.broker.settings
        self.broker.set({
            "listeners": f"{settings['listeners']},EVICTD://127.0.0.1:{inner}",
            "advertised.listeners": f"{settings['advertised.listeners']},EVICTD://127.0.0.1:{self.way.port}",
            "listener.security.protocol.map": f"{settings['listener.security.protocol.map']},EVICTD:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        })
        self.client = parts.Client(self.broker.brokers)
        self.connect = None
        self.is_supervised = threading.Event()  # the connector is made, and started again when it has failed

    def start(self):
        world = self.world
        self.broker.start()
        self.connect = parts.Connect(f"{world.folder}/connect", self.broker, {"plugin.discovery": "service_load"}).start()  # no scan: quicker
        world.postgres.execute(KAFKA_SCHEMA)
        self.add_connector()
        world.postgres.execute(FIRST_EVENTS)
        topics = {PREFIX + table for table in (*self.tables, "marker")}
        eventually("every table has its topic", lambda: topics <= set(self.client.topics()), 60, every=0.2)
        self.is_supervised.set()

    def add_connector(self):
        self.connect.add_postgres(self.world.postgres, table_include_list=TABLES, poll_interval_ms="100",
                                  retriable_restart_connector_wait_ms="500")

    def asking(self):
        """What evictd is told of the database."""
        return (f"postgres_url: {self.world.postgres.url(user='nemesis', port=self.world.to_postgres.port)}\n"
                f"postgres_password_file: {self.world.password_file}\n")

    def threads(self):
        return [self.mark, self.supervise]

    def mark(self, _choice):
        """Something is written all the time, so that the newest record's age is Debezium's delay."""
        while not self.world.stopping.wait(0.25):
            if self.world.writing:
                try:
                    self.world.postgres.execute("update marker set at = clock_timestamp()::text")
                except Exception as error:  # pylint: disable=broad-except
                    self.world.trouble(error)

    def supervise(self, _choice):
        """As an operator of Kafka Connect does: a connector that is not there is made, a task that has failed is started again."""
        while not self.world.stopping.wait(0.5):
            if not self.is_supervised.is_set():
                continue
            try:
                self.connector_runs()
            except (AssertionError, OSError) as error:
                self.world.trouble(error)

    def connector_runs(self):
        if "shop" not in self.connect._request("GET", "/connectors"):  # pylint: disable=protected-access
            self.add_connector()
        status = self.connect._request("GET", "/connectors/shop/status")  # pylint: disable=protected-access
        if any(task["state"] == "FAILED" for task in [status["connector"], *status["tasks"]]):
            self.connect._request("POST", "/connectors/shop/restart?includeTasks=true&onlyFailed=true")  # pylint: disable=protected-access
        states = [task["state"] for task in [status["connector"], *status["tasks"]]]
        assert states == ["RUNNING", "RUNNING"], f"the connector and its task are {states}"
        return True

    def make_evictd(self, folder, caches):
        world = self.world
        number = world.daemons
        return kafka_daemon.KafkaEvictd(
            folder, types.SimpleNamespace(brokers=f"127.0.0.1:{self.way.port}"), None, world.rules, caches=caches, program=world.program,
            group=GROUP, topics=[f"^{PREFIX.replace('.', '[.]')}", "__debezium-heartbeat.shop"],
            kafka_more=self.asking(),
            properties={"client.id": f"evictd{number}", "session.timeout.ms": str(SESSION * 1000), "reconnect.backoff.max.ms": "1000"})

    _age = re.compile(r"^evictd_kafka_record_age_seconds (\S+)", re.M)

    def is_current(self, metrics):
        age = self._age.search(metrics)
        return age is not None and float(age.group(1)) <= AGE_GREEN

    def silence(self, lasting=None):
        """The age of the newest record tells."""

    def change_hands(self):
        """Of a daemon that is gone nobody has the partitions until its session is over. No other says anything about them."""
        self.world.allow("members", SESSION + 9, lasting=SESSION + 9)

    def wait_for_what_comes_before_evictd(self):
        """What is committed is in Kafka: Debezium has acknowledged it, and a broker has what it acknowledges."""
        eventually("Debezium runs", lambda: self.quietly(self.connector_runs), 300, every=0.3)
        self.world.sql("update marker set at = clock_timestamp()::text")
        eventually("Debezium has sent everything", lambda: self.quietly(
            lambda: kafka_daemon.wait_for_debezium(self.world.postgres, self.slot, 30)), 300)

    @staticmethod
    def quietly(act):
        try:
            return act() is not False
        except OSError as error:
            raise AssertionError(str(error)) from error

    def topics(self):
        return {topic: partitions for topic, partitions in self.client.topics().items() if topic.startswith(PREFIX)}

    def offsets(self):
        """{topic: [(committed or -1, low, high), ...]}"""
        return {topic: self.client.offsets(GROUP, topic, partitions) for topic, partitions in self.topics().items()}

    def has_caught_up(self):
        # Something new, or evictd could not tell an idle database from a connector that stands still.
        self.world.sql("update marker set at = clock_timestamp()::text")
        kafka_daemon.wait_for_debezium(self.world.postgres, self.slot, 30)

        def passed():
            for one in self.world.members():
                # Heartbeats come in one partition: whoever else has had no record for a while cannot tell; what is committed can.
                assert_at_rest(one, may_be_idle=True)
                assert one.metrics().sum("evictd_kafka_lag_messages") == 0, "records are not acknowledged"
            for topic, partitions in self.offsets().items():
                for at, (committed, _, high) in enumerate(partitions):
                    assert high == 0 or committed >= high, f"{topic}[{at}]: committed {committed} of {high}"
            return True
        return eventually("acknowledged", passed, 30, every=0.1)

    def acknowledged_is_written(self):
        return all(committed <= high for partitions in self.offsets().values() for committed, _, high in partitions)


class KafkaAlone(Kafka):
    """Without `postgres_url`: no snapshots, so a commit that hangs behind its standby is not covered; no keys of joined tables, no refreshes;
    the relations below a partitioned table are not known, so Debezium names the root."""

    faults = {"any", "kafka"}
    asks_database = False
    tables = ("items", "notes", "settings", "lines", "labels", "parts")
    without_rules = ("lines", "labels")

    def start(self):
        # Debezium takes the one that is there; the 3.1 that is tested here cannot be told to make it so.
        self.world.postgres.execute(f"create publication {self.slot} for all tables with (publish_via_partition_root = true)")
        super().start()

    def asking(self):
        return ""


SOURCES = {"postgres": Postgres, "kafka": Kafka, "kafka alone": KafkaAlone}
