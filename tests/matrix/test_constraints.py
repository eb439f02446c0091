"""What a constraint promises of the rows that are there. For versions of the matrix alone: Debian's is older."""

from harness import oracle
from harness.waiting import eventually


def test_a_column_whose_not_null_was_not_validated_may_hold_null(postgres, cache, make_evictd):
    postgres.execute("create table invoices (id int primary key, paid text); insert into invoices values (1, null), (2, 'x');"
                     "alter table invoices replica identity full; alter table invoices add constraint paid_is_there not null paid not valid")
    evictd = make_evictd(rules="- {table: invoices, where: {paid: null}, keys: ['invoice:{id}']}\n")
    checked = evictd.command("check")
    assert "never NULL" not in checked.stdout and checked.returncode == 0, checked.stdout
    evictd.start()
    cache.mset({"invoice:1": "open", "invoice:2": "paid"})
    postgres.execute("update invoices set paid = 'y' where id = 1; delete from invoices where id = 2")
    eventually("the row that was NULL is found", lambda: not cache.exists("invoice:1"))
    oracle.wait_until_acknowledged(postgres, "evictd")
    assert cache.exists("invoice:2")
    evictd.stop()

    postgres.execute("insert into invoices values (3, 'z'); alter table invoices validate constraint paid_is_there")
    assert "'paid' is never NULL" in evictd.command("check").stdout
