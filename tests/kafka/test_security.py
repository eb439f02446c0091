"""What stands in `properties` reaches the broker: TLS and SASL, against a broker that insists on both."""

import json
import os
import shutil
import subprocess
import types

import pytest

import parts
from harness import process
from harness.waiting import eventually, stays
from kafka_daemon import KafkaEvictd

RULES = "rules: [{table: public.items, keys: ['item:{id}']}]\n"
EVENT = b'{"before":null,"after":{"id":%d},"source":{"schema":"public","table":"items","ts_ms":1},"op":"c"}'
SECRET = "open sesame"
RIGHTS = "allow the user to read and describe the topics"


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)


def _certificates(folder):
    """ca.pem, another-ca.pem, and server.pem: the broker's key and certificate in one file, as Kafka wants them."""
    for name in ("ca", "another-ca"):
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                 "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", f"{folder}/server.key",
             "-out", f"{folder}/server.csr")
    with open(f"{folder}/extensions", "w", encoding="utf-8") as file:
        file.write("subjectAltName=IP:127.0.0.1\n")
    _openssl("x509", "-req", "-days", "2", "-in", f"{folder}/server.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key",
             "-CAcreateserial", "-extfile", f"{folder}/extensions", "-out", f"{folder}/server.crt")
    with open(f"{folder}/server.pem", "w", encoding="utf-8") as whole:
        for part in ("server.key", "server.crt"):
            with open(f"{folder}/{part}", encoding="utf-8") as file:
                whole.write(file.read())


@pytest.fixture(scope="module")
def secure():
    """A broker with a plain listener for the test's own tools, and one with TLS and SASL."""
    folder = process.temporary_folder("evictd-secure-")
    parts.fetch()
    _certificates(folder)
    port = process.free_port()
    server = parts.Kafka(f"{folder}/kafka", format_more=[
        "--add-scram", f"SCRAM-SHA-512=[name=evictd,password={SECRET}]"])
    server.set({
        "listeners": f"PLAINTEXT://127.0.0.1:{server.port},SECURE://127.0.0.1:{port},"
                     f"CONTROLLER://127.0.0.1:{server.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{server.port},SECURE://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.secure.plain.sasl.jaas.config":
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_evictd="{SECRET}";',
        "listener.name.secure.scram-sha-512.sasl.jaas.config":
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true", "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM", "ssl.keystore.location": f"{folder}/server.pem",
    })
    server.start()
    client = parts.Client(server.brokers)
    client.create("secure.public.items")
    yield types.SimpleNamespace(folder=folder, brokers=f"127.0.0.1:{port}", client=client)
    server.stop(hard=True)
    shutil.rmtree(folder, ignore_errors=True)


def daemon(folder, secure, redis, group, monkeypatch, password=SECRET, **properties):
    monkeypatch.setenv("KAFKA_PASSWORD", password)
    return KafkaEvictd(f"{folder}/evictd", secure, redis.url(), RULES, topics=["^secure[.]"], group=group, properties={
        "security.protocol": "sasl_ssl", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "evictd",
        "sasl.password": "${KAFKA_PASSWORD}", "ssl.ca.location": f"{secure.folder}/ca.pem", **properties})


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_events_come_over_tls_and_sasl(secure, folder, redis, cache, monkeypatch, mechanism):
    one = daemon(folder, secure, redis, mechanism, monkeypatch, **{"sasl.mechanisms": mechanism}).start()
    cache.set("item:1", "v")
    secure.client.produce("secure.public.items", [(b'{"id":1}', EVENT % 1)])
    eventually("the key is gone", lambda: not cache.exists("item:1"), 30)
    ids = {finding["id"] for finding in _findings(one.command("check", "--json"))}
    assert "KF001" not in ids, "check reaches the broker with the same properties"
    assert one.stop() == 0
    assert SECRET not in one.log_text()


def _findings(done):
    found = []

    def collect(node):
        if isinstance(node, dict):
            if "id" in node and "severity" in node:
                found.append(node)
            node = list(node.values())
        if isinstance(node, list):
            for value in node:
                collect(value)

    collect(json.loads(done.stdout))
    return found


def test_a_wrong_password_is_told_and_waited_for_and_is_not_shown(secure, folder, redis, monkeypatch):
    one = daemon(folder, secure, redis, "wrong", monkeypatch, password="not the word").start(ready=False)
    eventually("the log says why", lambda: "uthentication failed" in one.log_text() or not one.is_running(), 60)
    # It may be the brokers' word that is the wrong one.
    stays("it goes on trying", one.is_running, 3)
    code, said = one.http("/readyz")
    assert code == 503 and "uthentication failed" in said, said
    log = one.log_text()
    assert "check security.protocol and sasl.* in 'properties'" in log, log
    assert log.count("uthentication failed") == 1, log
    assert one.stop() == 0
    assert "not the word" not in log
    shown = one.command("check", "--json").stdout
    assert "KF001" in shown and "uthentication failed" in shown and "not the word" not in shown, shown


def test_a_foreign_authority_is_refused(secure, folder, redis, monkeypatch):
    one = daemon(folder, secure, redis, "foreign", monkeypatch,
                 **{"ssl.ca.location": f"{secure.folder}/another-ca.pem"}).start(ready=False)
    eventually("the log says why", lambda: "certificate verify failed" in one.log_text(), 60)
    assert one.http("/readyz")[0] != 200
    one.kill()
    assert os.path.getsize(one.log) < 20_000, "it says so once, not at each try"


def test_a_topic_that_can_be_seen_and_not_be_read(secure, folder, redis, cache, monkeypatch):
    """librdkafka says so once, and brokers that answer say nothing about it: evictd must not call itself ready."""
    client, topic = secure.client, "secure.public.items"
    one = daemon(folder, secure, redis, "rights", monkeypatch).start()
    assert one.stop() == 0
    client.produce(topic, [(b'{"id":2}', EVENT % 2)])
    cache.set("item:2", "v")
    client.allow("topic", topic, "User:evictd", "describe")
    try:
        done = one.command("check", "--json")
        found = [finding for finding in _findings(done) if finding["id"] == "KF001"]
        assert [(finding["severity"], finding["fix"]) for finding in found] == [("error", RIGHTS)], done.stdout
        assert done.returncode == 2
        one.start(ready=False)
        eventually("evictd tells", lambda: RIGHTS in one.http("/readyz")[1], 30)
        # Longer than until the brokers are asked again.
        stays("it is not ready", lambda: f"topic '{topic}' cannot be read" in one.http("/readyz")[1], 3)
    finally:
        client.allow("topic", topic, "User:evictd", "read")
    eventually("the key is gone", lambda: not cache.exists("item:2"), 30)
    one.wait_until_ready()
