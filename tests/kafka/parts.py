"""The real parts: Apache Kafka (one KRaft process), Kafka Connect with Debezium, MariaDB. Each is a private process in
a temporary folder on free ports, ended by its process id."""

import glob
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
import uuid

from harness import process
from harness.servers import ServerMissing
from harness.waiting import eventually

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JARS = os.environ.get("EVICTD_KAFKA_JARS", f"{ROOT}/build/kafka/jars")


def fetch():
    """Gets the jars; ServerMissing says why they cannot be had."""
    got = subprocess.run([f"{ROOT}/tests/kafka/fetch.sh", JARS], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, check=False, timeout=900)
    if got.returncode != 0:
        raise ServerMissing(got.stderr.strip().replace("\n", "; ") or "tests/kafka/fetch.sh failed")


def _java(heap, *arguments):
    # Small and quick to start rather than fast in the long run.
    return ["java", f"-Xmx{heap}", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Dlog4j.configuration=file:/dev/null", "-cp", f"{JARS}/*", *arguments]


class Kafka:
    """One broker that is its own controller. Data outlives stop() and start()."""

    def __init__(self, folder, settings=None, format_more=()):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.port = process.free_port()
        self.log = f"{folder}/kafka.log"
        self.process = None
        self.controller_port = process.free_port()
        self.settings = {
            "process.roles": "broker,controller", "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": f"{folder}/data", "num.partitions": "1",
            "offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",  # Connect makes the topics of its connectors
            "log.cleaner.enable": "false", "controlled.shutdown.enable": "true",
            **(settings or {}),
        }
        self.properties = f"{folder}/server.properties"
        self.set({})
        cluster = uuid.uuid4().hex[:22]
        subprocess.run(_java("128m", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", self.properties,
                             *format_more),
                       stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120)

    def set(self, settings):
        """Further settings, from the next start on."""
        self.settings.update(settings)
        with open(self.properties, "w", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in self.settings.items())

    @property
    def brokers(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process = process.start(_java("512m", "kafka.Kafka", self.properties), log=self.log)
        eventually("Kafka answers", self._answers, 120, every=0.2)
        return self

    def _answers(self):
        assert self.process.poll() is None, f"Kafka ended, see {self.log}:\n{_tail(self.log)}"
        client = Client(self.brokers)
        try:
            client.topics(timeout=2)
            return True
        except KafkaProblem:
            return False
        finally:
            client.close()

    def stop(self, hard=False):
        return process.end(self.process, signal.SIGKILL if hard else signal.SIGTERM, 30)


class Connect:
    """Kafka Connect, standalone."""

    def __init__(self, folder, kafka, settings=None):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.port = process.free_port()
        self.log = f"{folder}/connect.log"
        self.process = None
        everything = {
            "bootstrap.servers": kafka.brokers,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "offset.storage.file.filename": f"{folder}/offsets",
            # Debezium's slot follows soon after Kafka has the events: the tests wait for it.
            "offset.flush.interval.ms": "500",
            "listeners": f"http://127.0.0.1:{self.port}",
            "plugin.discovery": "only_scan",
            # How soon Debezium writes to partitions that are added.
            "producer.metadata.max.age.ms": "1000",
            **(settings or {}),
        }
        self.properties = f"{folder}/worker.properties"
        with open(self.properties, "w", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in everything.items())

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def launch(self):
        """It answers later."""
        self.process = process.start(
            _java("512m", "org.apache.kafka.connect.cli.ConnectStandalone", self.properties), log=self.log)

    def start(self):
        self.launch()
        eventually("Kafka Connect answers", self._answers, 120, every=0.2)
        return self

    def stop(self, hard=False):
        return process.end(self.process, signal.SIGKILL if hard else signal.SIGTERM, 30)

    def _answers(self):
        assert self.process.poll() is None, f"Kafka Connect ended, see {self.log}:\n{_tail(self.log)}"
        try:
            return self._request("GET", "/connectors") is not None
        except OSError:
            return False

    def _request(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def add(self, name, config):
        """Creates a connector and waits until its task runs."""
        self._request("POST", "/connectors", {"name": name, "config": config})

        def runs():
            status = self._request("GET", f"/connectors/{name}/status")
            tasks = status["tasks"]
            assert all(task["state"] != "FAILED" for task in tasks), tasks
            return tasks and all(task["state"] == "RUNNING" for task in tasks)

        eventually(f"connector '{name}' runs", runs, 60, every=0.2)

    def remove(self, name):
        self._request("DELETE", f"/connectors/{name}")

    def add_postgres(self, postgres, name="shop", database="shop", **more):
        """Debezium's PostgreSQL connector on a private server; streams from its start, without a snapshot.
        Underscores in the names of further settings stand for dots."""
        self.add(name, {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1", "database.port": str(postgres.port), "database.user": "postgres",
            "database.password": "unused", "database.dbname": database, "topic.prefix": name,
            "plugin.name": "pgoutput", "slot.name": f"debezium_{name}", "publication.name": f"debezium_{name}",
            "snapshot.mode": "no_data", "skipped.operations": "none", "heartbeat.interval.ms": "1000",
            "key.converter.schemas.enable": "false", "value.converter.schemas.enable": "false",
            "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "3",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            **{setting.replace("_", "."): value for setting, value in more.items()},
        })

        def streams():
            return postgres.value("select active from pg_replication_slots where slot_name = %s",
                                  (f"debezium_{name}",), database=database)

        eventually("Debezium streams", streams, 60, every=0.1)


class MariaDb:
    """A private MariaDB with a row-based binary log."""

    def __init__(self, folder):
        self.server = _program("mariadbd", "/usr/sbin/mariadbd")
        install = _program("mariadb-install-db", "/usr/bin/mariadb-install-db")
        self.client = _program("mariadb", "/usr/bin/mariadb")
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.port = process.free_port()
        self.log = f"{folder}/mariadb.log"
        self.process = None
        self.user = ["--user=root"] if os.geteuid() == 0 else []
        subprocess.run([install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal",
                        "--skip-test-db", *self.user], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120)

    def start(self):
        self.process = process.start(
            [self.server, "--no-defaults", *self.user, f"--datadir={self.folder}/data", f"--port={self.port}",
             "--bind-address=127.0.0.1", f"--socket={self.folder}/socket", "--server-id=1", "--log-bin=binlog",
             "--binlog-format=ROW", "--binlog-row-image=FULL", "--innodb-buffer-pool-size=32M"], log=self.log)
        eventually("MariaDB answers", lambda: self.sql("select 1", check=False).returncode == 0, 60, every=0.1)
        self.sql("create user debezium@'%' identified by 'debezium'; grant all on *.* to debezium@'%'")
        return self

    def sql(self, statements, database="", check=True):
        assert self.process.poll() is None, f"MariaDB ended:\n{_tail(self.log)}"
        done = subprocess.run([self.client, "--no-defaults", "-u", "root", f"--socket={self.folder}/socket",
                               "-N", "-B", database], input=statements, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done

    def stop(self):
        return process.end(self.process, signal.SIGTERM, 30)


def _program(name, path):
    found = shutil.which(name) or (path if os.path.exists(path) else None)
    if found is None:
        raise ServerMissing(f"no {name}: deploy/packages.sh install kafka")
    return found


def _tail(path, lines=15):
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])


class KafkaProblem(Exception):
    """What the command-line tool said."""


class Client:
    """Producing and administration, through the small program that the build makes (kafka_tool.cpp): no Python
    client of Kafka is packaged by Debian."""

    def __init__(self, brokers):
        folders = [os.environ.get("EVICTD_BINARY_DIR"), f"{ROOT}/build/dev"]
        found = [path for folder in folders if folder for path in glob.glob(f"{folder}/tests/kafka/kafka_tool")]
        assert found, "kafka_tool is not built: cmake --build --preset dev --target kafka_tool"
        self.program = found[0]
        self.brokers = brokers

    def _run(self, *arguments, data=b"", timeout=60):
        done = subprocess.run([self.program, self.brokers, *map(str, arguments)], input=data, capture_output=True,
                              check=False, timeout=timeout + 10)
        if done.returncode != 0:
            raise KafkaProblem(done.stderr.decode(errors="replace").strip())
        return done.stdout.decode()

    def close(self):
        pass

    def topics(self, timeout=10):
        """{topic: number of partitions}"""
        lines = self._run("topics", timeout, timeout=timeout).splitlines()
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def create(self, topic, partitions=1, settings=None):
        self._run("create", topic, partitions, *itertools.chain(*(settings or {}).items()))

    def delete(self, topic):
        self._run("delete", topic)

    def allow(self, kind, name, principal, operation):
        """Of a topic or group; who has not been allowed anything of it has no right on it any more."""
        self._run("allow", name, kind, principal, operation)

    def add_partitions(self, topic, count):
        self._run("partitions", topic, count)

    def delete_records(self, topic, partition, before):
        self._run("trim", topic, partition, before)

    def delete_offsets(self, group, topic, partitions):
        self._run("forget", group, topic, partitions)

    def commit(self, group, topic, partition, offset):
        """Moves an empty group."""
        self._run("commit", group, topic, partition, offset)

    def offsets(self, group, topic, partitions):
        """[(committed or -1, low, high)] by partition. Waits while a broker that has just started, or a partition that has
        just been made, has no coordinator or leader."""
        def answer():
            try:
                return self._run("offsets", group, topic, partitions)
            except KafkaProblem as problem:
                assert not re.search("coordinator|leader", str(problem), re.IGNORECASE), str(problem)
                raise

        lines = eventually("the broker knows the offsets", answer, 30, every=0.2).splitlines()
        return [tuple(map(int, line.split())) for line in lines]

    def drain(self, topic, records):
        """The seconds that librdkafka's own consumer takes to read so many and throw them away."""
        return float(self._run("drain", topic, records, timeout=600))

    def members(self, group):
        """[(client.id, {"topic[partition]", ...})] of the group, as its coordinator knows it."""
        return [(words[0], set(words[1:])) for words in map(str.split, self._run("members", group).splitlines())]

    def produce(self, topic, records, partition=-1, transaction=None):
        """Records are (key or None, value or None) of bytes. `transaction`: all are of one, and that is its end: commit, abort,
        leave (open)."""
        lines = []
        for key, value in records:
            lines.append((b"-" if key is None else key.hex().encode() or b".") + b" " +
                         (b"-" if value is None else value.hex().encode() or b"."))
        self._run("produce", topic, partition, *([transaction] if transaction else []), data=b"\n".join(lines) + b"\n")
