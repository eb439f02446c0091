"""Events in Avro, and a schema registry that is away, mean, or has not got what is asked of it. (That Avro gives the keys that JSON
gives, test_corpus.py shows.)"""

import os

from group import written
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, findings
from registry import Registry, frame
from test_corpus import AVRO

RULES = "defaults: {fill: plain, settle: 100ms}\nrules: [{table: public.items, keys: ['item:{id}', 'slug:{slug}']}]\n"
SECRET = "p@ss/w0rd"


def _long(number):
    number = number << 1 ^ number >> 63
    out = b""
    while number > 0x7f:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def _text(text):
    return _long(len(text)) + text.encode()


KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]}
ROW = {"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}, {"name": "slug", "type": "string"}]}


def _record(identity, slug, key_id, value_id, width=4):
    """A flattened row."""
    return frame(key_id, _long(identity), width), frame(value_id, _long(identity) + _text(slug), width)


def _stuck(one, *words):
    """It says these, and is not ready."""
    def says():
        status, text = one.http("/readyz")
        assert status != 200, "ready"
        assert all(word in text for word in words), text
        return True

    eventually(f"evictd says {words}", says, 60, every=0.1)


def _rss_kib(one):
    with open(f"/proc/{one.process.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def test_a_registry_away_under_load_loses_nothing(make_group, seed):
    """Debezium's converter has a registry; evictd's, which knows the same schemas, goes away and comes back mean."""
    writers = Registry()
    ours = Registry()
    ours.schemas = writers.schemas
    url = {f"{of}_converter_apicurio_registry_url": writers.apicurio_url for of in ("key", "value")}
    try:
        group = make_group(**AVRO, **url)
        one = group.add(kafka_more=f"postgres_url: {group.postgres.url()}\nregistry: {{url: '{ours.url}'}}")
        running = group.load(seed)
        written(running, 50)
        group.fill("product:1")
        ours.stop()
        # A schema that evictd has not seen. What was read without the column is another value, and no event of these rows tells.
        group.postgres.execute("alter table products add column extra date; update products set slug = slug")
        written(running, 50)
        _stuck(one, "the schema registry at", "onnect")
        ours.mood = "huge"
        ours.start()
        moods = {"huge": ["the body of the answer is longer than"]}
        if os.environ.get("EVICTD_SOAK"):
            moods.update({"html": ["expected an answer of the form"], "status": ["expected status 200", "got 500"], "other": ["its Avro schema cannot be read", "no such"],
                          "hang": ["no answer within 10000 ms"]})
        for mood, words in moods.items():
            ours.mood = mood
            _stuck(one, *words)
        assert _rss_kib(one) < 200 * 1024, "the answer is not gathered"
        ours.released.set()
        assert one.metrics().sum("evictd_kafka_poison_records_total") == 0
        ours.mood = None
        group.converge(running)
        assert one.metrics().sum("evictd_kafka_poison_records_total") == 0
        assert group.gaps() == 0
    finally:
        writers.stop()
        ours.stop()


def test_a_schema_that_is_missing_stops_reading_until_it_is_there(folder, kafka, client, redis):
    registry = Registry(user="evictd", password=SECRET)
    password = f"{folder}/password"
    with open(password, "w", encoding="utf-8") as file:
        file.write("of yesterday: 7hx\n")
    topic = "missing.public.items"
    client.create(topic, 1)
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=[topic], group="missing",
                      kafka_more=f"registry: {{url: '{registry.url}', user: evictd, password_file: '{password}', id: 4}}")
    cache = redis.client()
    try:
        one.start()
        key_id, value_id = registry.add(KEY), registry.add(ROW)
        cache.mset({"item:1": "v", "item:2": "v", "item:3": "v", "slug:b": "v"})
        client.produce(topic, [_record(1, "a", key_id, value_id)])
        _stuck(one, f"{topic}[0] offset 0", "it refuses user and password (status 401)")
        with open(password, "w", encoding="utf-8") as file:
            file.write(SECRET + "\n")
        eventually("it goes on with the password of now", lambda: not cache.exists("item:1"), 30)
        eventually("it is ready again", lambda: one.http("/readyz")[0] == 200, 30)
        asked = len(registry.asked)
        client.produce(topic, [_record(2, "b", key_id, 4242), _record(3, "c", key_id, value_id)])
        _stuck(one, f"{topic}[0] offset 1", "it has no schema 4242 (status 404)", "the id was read from 4 bytes")
        assert cache.exists("item:2", "item:3") == 2, "nothing behind the record is read"
        assert client.offsets("missing", topic, 1)[0][0] <= 1
        assert one.stop() == 0, "it ends as it should meanwhile"
        one.start(ready=False)
        _stuck(one, f"{topic}[0] offset 1", "it has no schema 4242")
        registry.add(ROW, 4242)
        eventually("it goes on", lambda: not cache.exists("item:2", "item:3", "slug:b"), 30)
        eventually("it is ready again", lambda: one.http("/readyz")[0] == 200, 30)
        assert one.metrics().sum("evictd_kafka_poison_records_total") == 0
        assert len(registry.asked) > asked
        asked = len(registry.asked)
        cache.set("item:9", "v")
        client.produce(topic, [_record(9, "z", key_id, value_id)])
        eventually("it reads on", lambda: not cache.exists("item:9"), 30)
        assert len(registry.asked) == asked, "a schema is asked for once"
        # Eight bytes where four are set: told, with what would be right.
        client.produce(topic, [_record(1, "a", key_id, value_id, 8)])
        _stuck(one, "schema 0", f"and is {value_id} where the converter writes 8")
        assert SECRET not in one.log_text() + str(one.status()) and "7hx" not in one.log_text()
    finally:
        one.kill()
        registry.stop()


def test_bytes_that_do_not_fit_their_schema_are_poison(folder, kafka, client, redis):
    registry = Registry()
    topic = "unfit.public.items"
    client.create(topic, 1)
    one = KafkaEvictd(f"{folder}/evictd", kafka, redis.url(), RULES, topics=[topic], group="unfit",
                      kafka_more=f"registry: {{url: '{registry.url}'}}\ndead_letter_file: letters")
    cache = redis.client()
    try:
        one.start()
        key_id, value_id = registry.add(KEY), registry.add(ROW)
        protobuf = registry.add('syntax = "proto3"; message Value {}', kind="PROTOBUF")
        cache.mset({"item:7": "v", "slug:x": "v", "other": "v"})
        key, value = _record(1, "a", key_id, value_id)
        client.produce(topic, [(key, value + b"\0"), (key, frame(protobuf, b"\0\x08\x01")), (key, b"\0\0")])
        eventually("what they may have touched is gone", lambda: not cache.exists("item:7", "slug:x"), 30)
        cache.set("item:1", "v")
        client.produce(topic, [_record(1, "a", key_id, value_id, 8)])  # ids of eight bytes are told by themselves
        eventually("it reads on", lambda: not cache.exists("item:1"), 30)
        eventually("they are counted", lambda: one.metrics().sum("evictd_kafka_poison_records_total") == 3, 30)
        with open(f"{folder}/evictd/letters", "rb") as file:
            letters = file.read()
        assert b"got 1 more bytes than its schema tells" in letters and b"got Protobuf" in letters
        assert cache.exists("other")
    finally:
        one.kill()
        registry.stop()


def test_check_asks_the_registry(folder, kafka, client, redis):
    registry = Registry(user="evictd", password=SECRET)
    topic = "checked.public.items"
    client.create(topic, 1)
    key_id, value_id = registry.add(KEY), registry.add(ROW)
    client.produce(topic, [_record(1, "a", key_id, value_id)])

    def check(name, url, more=""):
        one = KafkaEvictd(f"{folder}/{name}", kafka, redis.url(), RULES, topics=[topic], group="checked",
                          kafka_more=f"registry: {{url: '{url}'{more}}}")
        found, done = findings(one)
        assert SECRET not in done.stdout + done.stderr and "p%40ss" not in done.stdout + done.stderr
        return [(severity, thing, cause) for identity, severity, thing, cause in found if identity == "KF010"], found

    whole = registry.url.replace("http://", "http://evictd:p%40ss%2Fw0rd@")
    try:
        ours, found = check("right", whole)
        assert ours == []
        assert any(identity == "KF005" and "does not name Debezium's types" in cause for identity, _, _, cause in found)
        ours, _ = check("wrong", registry.url, ", user: evictd, password: wrong")
        assert len(ours) == 1 and ours[0][0] == "error" and "refuses user and password" in ours[0][2], ours
        client.produce(topic, [_record(1, "a", key_id, 77)])
        ours, _ = check("absent", whole)
        assert len(ours) == 1 and ours[0][1] == f"{topic}[0] offset 1" and "no schema 77" in ours[0][2], ours
    finally:
        registry.stop()
