"""What the benchmark writes: one table of single-key rows, changed by one large transaction or by many
single-row ones, so that every changed row is one key, whose value is in Redis or is not."""

import threading

# What a cached row is like: Redis frees it when the key is deleted.
VALUE = b"x" * 100
PIPELINE = 1000

TABLE = """
drop table if exists items;
create table items (id bigint primary key, version int not null, name text not null);
insert into items select i, 0, 'item ' || i from generate_series(1, {rows}) i;
create or replace procedure touch_each(first bigint, last bigint) language plpgsql as $$
begin
  for i in first..last loop
    update items set version = version + 1 where id = i;
    commit;
  end loop;
end $$;
"""

RULES = """
- table: public.items
  keys: ["item:{id}"]
  fill: %s
"""


def create_table(postgres, rows):
    postgres.execute(TABLE.format(rows=rows))
    vacuum = postgres.connect()
    with vacuum.cursor() as cursor:
        cursor.execute("vacuum (freeze, analyze) items")
        cursor.execute("checkpoint")
    vacuum.close()


def one_transaction(postgres, rows):
    """All rows in one transaction."""
    postgres.execute(f"update items set version = version + 1 where id <= {rows}")


def many_transactions(postgres, rows, sessions=4):
    """One transaction per row, from several sessions. Asynchronous commit, for the load alone: the
    benchmark measures how fast it is read."""

    def session(first, last):
        connection = postgres.connect()
        with connection.cursor() as cursor:
            cursor.execute("set synchronous_commit = off")
            cursor.execute("call touch_each(%s, %s)", (first, last))
        connection.close()

    share = (rows + sessions - 1) // sessions
    threads = [threading.Thread(target=session, args=(first, min(first + share - 1, rows)))
               for first in range(1, rows + 1, share)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def end_of_load(postgres):
    """The position just past the load, flushed, with the server's dirty pages written out so that no
    checkpoint falls into a measurement."""
    postgres.execute("checkpoint")
    return postgres.value("select pg_current_wal_flush_lsn()::text")


def key(number):
    return f"item:{number}"


def in_pipelines(cache, command, rows):
    """`command(pipeline, key)` for the key of each row."""
    for first in range(1, rows + 1, PIPELINE):
        pipeline = cache.pipeline(transaction=False)
        for number in range(first, min(first + PIPELINE, rows + 1)):
            command(pipeline, key(number))
        pipeline.execute()


def cache_all(cache, rows):
    in_pipelines(cache, lambda pipeline, name: pipeline.set(name, VALUE), rows)


def create_many_tables(postgres, tables, rows):
    """`rows` in all."""
    for number in range(tables):
        postgres.execute(f"drop table if exists many_{number}; create table many_{number} (id bigint primary key, version int not null);"
                         f"insert into many_{number} select i, 0 from generate_series(1, {rows // tables}) i")


def many_tables(postgres, tables, rows):
    """Each row of them once, in one transaction, a hundred rows of one table after a hundred of another."""
    postgres.execute(f"""
      do $$ begin
        for turn in 0..{rows // tables // 100 - 1} loop
          for number in 0..{tables - 1} loop
            execute format('update many_%s set version = version + 1 where id > %s and id <= %s',
                           number, turn * 100, turn * 100 + 100);
          end loop;
        end loop;
      end $$""")


def rules_of_many_tables(tables):
    return "".join(f"- {{table: public.many_{number}, keys: ['many:{number}:{{id}}'], fill: plain}}\n" for number in range(tables))
