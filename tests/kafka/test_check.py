"""`evictd check` and wrong settings, against a real broker and connector."""

import json

from harness import servers
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd

RULES = "rules: [{table: public.items, keys: ['item:{id}', 'slug:{slug}']}]\n"


def findings(one):
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


def test_what_check_says(folder, kafka, client, connect, redis):
    client.create("check.public.items", 1)
    client.produce("check.public.items", [(b"k", b"\x00\x00\x00\x00\x01avro")])
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["check.public.items", "check.public.absent"],
                      group="check", kafka_more=f"connect_url: {connect.url}")
    found, done = findings(one)
    ids = {identity for identity, *_ in found}
    assert ("KF002" in ids) and ("KF005" in ids), done.stdout + done.stderr
    assert any(identity == "KF002" and "absent" in thing for identity, _, thing, _ in found)
    assert any(identity == "KF005" and "Avro" in cause for identity, _, _, cause in found)


def test_a_committed_offset_that_is_gone(folder, kafka, client, redis):
    client.create("gone.public.items", 1)
    event = b'{"before":null,"after":{"id":1,"slug":"a"},"source":{"schema":"public","table":"items","ts_ms":1},"op":"c"}'
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["gone.public.items"], group="gone").start()
    client.produce("gone.public.items", [(b'{"id":1}', event)])
    eventually("committed", lambda: client.offsets("gone", "gone.public.items", 1)[0][0] == 1, 30, every=0.2)
    assert one.stop() == 0
    client.produce("gone.public.items", [(b'{"id":1}', event)] * 5)
    client.delete_records("gone.public.items", 0, 4)
    found, done = findings(one)
    assert any(identity == "KF003" and "3 records are gone" in cause for identity, _, _, cause in found), done.stdout


def test_the_connector_skips_truncates(folder, kafka, connect, redis):
    postgres = servers.Postgres(f"{folder}/postgres").start()
    try:
        postgres.execute("create database shop", database="postgres")
        postgres.execute("create table items (id int primary key, slug text)")
        connect.add_postgres(postgres, "skips", skipped_operations="t")
        one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=["^skips[.]"], group="skips",
                          kafka_more=f"connect_url: {connect.url}")
        found, done = findings(one)
        assert any(identity == "KF007" and "truncate" in cause for identity, _, _, cause in found), done.stdout
        connect.remove("skips")
    finally:
        postgres.stop("immediate")


def test_an_unreachable_broker(folder, redis):
    class Nowhere:
        brokers = "127.0.0.1:1"

    one = KafkaEvictd(f"{folder}/evictd", Nowhere, redis.url(), RULES)
    found, done = findings(one)
    assert any(identity == "KF001" for identity, *_ in found), done.stdout
    assert done.returncode == 1
