"""What the benchmark writes: one table of single-key rows, changed by one large transaction or by many
single-row ones, so that every changed row is one key that Redis has not seen."""

import threading

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
