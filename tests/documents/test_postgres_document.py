"""docs/postgres.md, carried out: the role it makes is enough, in both ways, and the figures have the shape it tells."""

import re

import pytest

from harness import process, servers, shop
from harness.daemon import ROOT, Evictd
from harness.waiting import eventually

RULES = """- table: public.products
  keys: ["product:slug:{slug}"]
- table: public.categories
  keys: ["category:{id}"]
"""


def sql_block():
    with open(f"{ROOT}/docs/postgres.md", encoding="utf-8") as file:
        return re.search(r"^```sql\n(.*?)^```", file.read(), re.S | re.M)[1]


@pytest.fixture(name="postgres")
def postgres_with_the_shop():
    server = servers.Postgres(process.temporary_folder("evictd-document-pg-")).start()
    shop.create(server, ROOT)
    server.execute("alter table products replica identity default")
    yield server
    server.stop("immediate")


@pytest.fixture(name="cache")
def redis_server():
    server = servers.Redis(process.temporary_folder("evictd-document-redis-")).start()
    yield server
    server.stop()


@pytest.mark.parametrize("way", ["evictd makes the publication", "its owner makes it"])
def test_the_role_of_the_document_is_enough(postgres, cache, way):
    own, owners = re.split(r"-- \.\.\. or somebody[^\n]*\n", sql_block())
    create = [line for line in owners.splitlines() if line.startswith("create publication")]
    identity = [line for line in owners.splitlines() if line.startswith("alter table")]
    assert create and identity
    role, grant = own.replace("-- Either", "\n-- Either").split("\n-- Either")
    postgres.execute(role)
    if way == "evictd makes the publication":
        postgres.execute(grant.partition("\n")[2] + "alter table products owner to evictd; alter table categories owner to evictd")
        postgres.execute("\n".join(identity))
    else:
        postgres.execute(owners)
    daemon = Evictd(process.temporary_folder("evictd-document-"), postgres.url(user="evictd"), cache.url(), RULES).start()
    try:
        checked = daemon.command("check")
        assert not re.search(r"PG003|PG014|PG015|PG019", checked.stdout), checked.stdout
        cache.client().set("product:slug:product-7", "old")
        postgres.execute("update products set slug = 'seven' where id = 7")
        eventually("the old slug's key is gone", lambda: cache.client().get("product:slug:product-7") is None, 30)
    finally:
        daemon.stop()


def wal_of_updates(postgres, identity):
    postgres.execute(f"""drop table if exists wide; create table wide (id int primary key, n int not null, body text not null);
        alter table wide alter column body set storage external;
        insert into wide select i, 0, repeat(md5(i::text), 250) from generate_series(1, 1000) i;
        alter table wide replica identity {identity}""")
    postgres.execute("vacuum wide")
    postgres.execute("checkpoint")
    postgres.execute("update wide set n = n + 1")  # its full page images are not counted
    begin = postgres.value("select pg_current_wal_insert_lsn()")
    postgres.execute("update wide set n = n + 1")
    return int(postgres.value("select pg_current_wal_insert_lsn() - %s::pg_lsn", (begin,))) / 1000


def test_whole_old_rows_cost_what_lies_out_of_line(postgres):
    """The document's warning: a large text that an update leaves alone is logged under `full`, and not otherwise."""
    assert wal_of_updates(postgres, "default") < 2000
    assert wal_of_updates(postgres, "full") > 8000
