"""The shop, Debezium on it, and the daemons of one consumer group."""

import json

from harness import oracle, servers, shop
from harness.fixtures import ROOT
from harness.waiting import eventually
from kafka_daemon import KafkaEvictd, wait_for_daemons, wait_for_debezium

TABLES = r"public\.(products|categories|reviews|orders|settings|later)"


def written(running, count):
    """Waits until the shop's writers have written so much more."""
    target = running.writes + count
    eventually("the writers write on", lambda: running.writes >= target, 60)


def event(identity, price=1):
    """An update of a product, as Debezium writes it without a schema."""
    row = {"id": identity, "slug": f"product-{identity}", "name": "n", "price_cents": price, "category_id": 1}
    return json.dumps({"before": row, "after": row, "op": "u", "source": {
        "connector": "postgresql", "schema": "public", "table": "products", "ts_ms": 1700000000000}}).encode()


class Group:
    """One per test; its name is that of the connector, of the topics' prefix and of the consumer group."""

    def __init__(self, folder, kafka, client, connect, name, **connector):
        self.folder, self.kafka, self.client, self.connect, self.name = folder, kafka, client, connect, name
        with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as file:
            self.rules = file.read()
        self.postgres = servers.Postgres(f"{folder}/postgres").start()
        shop.create(self.postgres, ROOT)
        self.redis = servers.Redis(f"{folder}/redis").start()
        self.cache = self.redis.client()
        shop.plant_sentinels(self.cache)
        self.daemons = []
        self.made = []
        self.connector = {"table_include_list": TABLES, "topic_creation_default_partitions": "3", **connector}
        connect.add_postgres(self.postgres, name, **self.connector)
        # The topics come with the first event of their table.
        self.postgres.execute("update products set name = name where id = 1; update categories set name = name where id = 1;"
                              "update reviews set body = body where id = 1; update orders set quantity = quantity "
                              "where id = 1; update settings set value = value where name = 'banner'")
        self.wait_for_debezium()

    def topic(self, table):
        return f"{self.name}.public.{table}"

    def add(self, ready=True, **more):
        """Starts one more daemon of the group."""
        more.setdefault("kafka_more", f"postgres_url: {self.postgres.url()}")
        more.setdefault("topics", [f"^{self.name}[.]"])
        more["properties"] = {"client.id": f"evictd{len(self.made)}", **more.get("properties", {})}
        one = KafkaEvictd(f"{self.folder}/evictd{len(self.made)}", self.kafka, self.redis.url(), self.rules,
                          group=self.name, **more)
        self.made.append(one)
        self.daemons.append(one.start(ready=ready))
        return one

    def kill(self, one):
        one.kill()
        self.daemons.remove(one)

    def stop(self, one):
        assert one.stop() == 0, one.log_tail()
        self.daemons.remove(one)

    def wait_for_members(self, *wanted, seconds=30):
        """These daemons, and no others, make up the group, and each holds partitions.
        -> {daemon: {"topic[partition]", ...}}"""
        def settled():
            members = self.client.members(self.name)
            held = {one: partitions for one in wanted for name, partitions in members
                    if name == f"evictd{self.made.index(one)}" and partitions}
            assert len(members) == len(held) == len(wanted), str(members)
            return held

        return eventually(f"the group has {len(wanted)} members at work", settled, seconds, every=0.2)

    def wait_for_debezium(self):
        wait_for_debezium(self.postgres, f"debezium_{self.name}")

    def load(self, seed, **more):
        more = {"writers": 2, "readers": 2, "writer_pause": 0.01, "reader_pause": 0.002, **more}
        running = shop.Shop(self.postgres, self.redis.client, seed, **more).start()
        eventually("the shop is at work", lambda: running.writes > 20 and running.hits > 20, 30)
        return running

    def converge(self, running=None, at_least=50):
        """Everything written has reached the cache; then every cached value equals its row."""
        if running is not None:
            running.stop_writers()
        self.wait_for_debezium()
        for one in self.daemons:
            one.wait_until_ready(60)
        wait_for_daemons(self.daemons, 90, self.client, self.name + ".public.")
        if running is not None:
            running.stop()
        return oracle.assert_true_cache(self.postgres, self.cache, at_least)

    def gaps(self, **labels):
        return sum(one.metrics().sum("evictd_gaps_total", **labels) for one in self.daemons)

    def fill(self, *keys):
        with self.postgres.connect() as connection, connection.cursor() as cursor:
            for key in keys:
                shop.fill(self.cache, cursor, key)
                assert self.cache.exists(key)

    def close(self):
        for one in self.made:
            if one.is_running():
                one.kill()
            print(f"--- the end of {one.log}\n{one.log_tail(15)}")
        self.connect.remove(self.name)
        self.postgres.stop("immediate")
        self.redis.stop()
