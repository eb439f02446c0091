"""Generated columns, which PostgreSQL 18 may send, and virtual ones, which it has. For versions of the matrix alone: Debian's is older."""

import subprocess

import psycopg2
import pytest

from harness import oracle
from harness.waiting import eventually

RULES = """
- {table: notes, keys: ['note:{id}', 'note:slug:{slug}']}
- {table: marks, keys: ['mark:{id}']}
"""


def create(postgres):
    postgres.execute("create table notes (id int primary key, title text, slug text generated always as (lower(title)) stored);"
                     "create table marks (id int primary key, title text, slug text generated always as (lower(title)) virtual);"
                     "alter table notes replica identity full; alter table marks replica identity full;"
                     "insert into notes values (1, 'A'); insert into marks values (1, 'A')")


def write_as_the_application(postgres):
    postgres.execute("update notes set title = 'B' where id = 1; update marks set title = 'B' where id = 1")


def test_publishing_breaks_no_write_of_the_application(postgres, cache, make_evictd):  # G7
    """From 18 on, UPDATE and DELETE fail on a published table whose replica identity holds a generated column that is not sent."""
    create(postgres)
    evictd = make_evictd(rules=RULES)
    checked = evictd.command("check")
    assert "'public.marks' has a replica identity with a virtual generated column ('slug')" in checked.stdout, checked.stdout
    evictd.start(ready=False)
    eventually("readiness says what is not followed", lambda: "table 'public.marks' has a replica identity with a virtual" in evictd.http("/readyz")[1])
    cache.mset({"note:1": "A", "note:slug:a": "1", "note:slug:b": "(absent)"})
    write_as_the_application(postgres)
    eventually("keys of the generated column are gone, too", lambda: not cache.exists("note:1", "note:slug:a", "note:slug:b"))
    postgres.execute("alter table marks replica identity default")
    evictd.wait_until_ready()
    cache.set("mark:1", "B")
    postgres.execute("update marks set title = 'C'")
    eventually("it is followed", lambda: not cache.exists("mark:1"))
    oracle.converge(postgres, evictd)


def test_a_publication_that_sends_none_of_them_gets_no_table_that_needs_them(postgres, make_evictd):  # G7
    create(postgres)
    postgres.execute("create publication evictd")
    evictd = make_evictd(rules=RULES).start(ready=False)
    eventually("readiness says what to do", lambda: "ALTER PUBLICATION evictd SET (publish_generated_columns = stored);" in evictd.http("/readyz")[1])
    write_as_the_application(postgres)
    postgres.execute("alter publication evictd set (publish_generated_columns = stored); alter table marks replica identity default")
    evictd.wait_until_ready(60)
    write_as_the_application(postgres)


def test_the_script_for_the_owner_breaks_no_write(postgres, make_evictd):  # G7
    create(postgres)
    postgres.execute("alter table notes replica identity default; alter table marks replica identity default; create publication evictd for table notes")
    with pytest.raises(psycopg2.Error, match="Replica identity"):
        postgres.execute("begin; alter table notes replica identity full; update notes set title = 'X'")
    postgres.execute("create table bare (title text, slug text generated always as (lower(title)) virtual); insert into bare values ('A')")
    evictd = make_evictd(rules=RULES.replace("['mark:{id}']", "['mark:{title}']") + "- {table: bare, keys: ['bare:{title}']}\n")
    for _ in range(2):
        script = evictd.command("check", "--sql").stdout
        done = subprocess.run(["psql", "-X", "-f", "-", postgres.url()], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        write_as_the_application(postgres)
        postgres.execute("update bare set title = 'B'")
        assert "-- not published, since its replica identity would make UPDATE and DELETE fail: public.bare" in done.stdout
    assert postgres.value("select relreplident from pg_class where relname = 'notes'") == "f"
    assert postgres.value("select relreplident from pg_class where relname = 'marks'") == "d"
    # ... and is advised no other way.
    found = evictd.command("check").stdout
    assert "PG019" in found and "FULL makes UPDATE and DELETE fail there: 'slug'" in found, found


def test_the_advice_names_the_publication_that_would_refuse_it(postgres, make_evictd):  # G7
    create(postgres)
    postgres.execute("alter table notes replica identity default; alter table marks replica identity default; create publication other for all tables")
    found = make_evictd(rules=RULES).command("check").stdout
    assert "ALTER TABLE public.notes REPLICA IDENTITY FULL; but not before publication 'other' sends all its columns" in found, found
    with pytest.raises(psycopg2.Error, match="Replica identity"):
        postgres.execute("begin; alter table notes replica identity full; update notes set title = 'X'")


@pytest.mark.parametrize("also", ["grant select (slug) on marks to reader", "alter table marks alter slug set (n_distinct = 7)",
                                  "alter table marks alter slug set not null", "alter table marks owner to reader"])
@pytest.mark.parametrize("is_away", [False, True], ids=["running", "away"])
def test_another_expression_of_a_virtual_column_is_found_whatever_was_altered_with_it(postgres, cache, make_evictd, also, is_away):
    """It changes what all rows show, and writes none. PostgreSQL refuses it for tables that a publication names."""
    postgres.execute("create table marks (id int primary key, title text, slug text generated always as (lower(title)) virtual);"
                     "insert into marks values (1, 'A'); create role reader; create publication evictd for tables in schema public")
    evictd = make_evictd(rules="- {table: marks, keys: ['mark:{id}']}\n").start()
    cache.set("mark:1", "a")
    if is_away:
        evictd.stop()
    postgres.execute(f"begin; alter table marks alter slug set expression as (upper(title)); {also}; commit")
    if is_away:
        evictd.start(ready=False)
    eventually("what was made with the old expression is purged", lambda: not cache.exists("mark:1"))
    evictd.wait_until_ready()
    assert evictd.metrics().sum("evictd_gaps_total", reason="table_changed") == 1
