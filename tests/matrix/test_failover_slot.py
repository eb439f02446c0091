"""A slot that is kept on a standby, which PostgreSQL does from 17 on. For versions of the matrix alone: Debian's is older."""

import psycopg2.extras

from harness import daemon
from harness.waiting import eventually
from readers.standby import Standby, either, fail_over

RULES = "- {table: products, keys: ['product:{id}']}\n"


def keep_on_standbys(postgres, slot):
    connection = psycopg2.connect(postgres.url(), connection_factory=psycopg2.extras.LogicalReplicationConnection)
    connection.cursor().execute(f"ALTER_REPLICATION_SLOT {slot} (FAILOVER true)")
    connection.close()


def test_the_slot_that_the_new_primary_has_is_used_and_what_only_the_old_one_had_is_purged(postgres, redis, cache, folder):
    postgres.execute("select pg_create_physical_replication_slot('standby')")
    standby = Standby(f"{folder}/standby", postgres, 0)
    with open(f"{standby.data}/postgresql.conf", "a", encoding="utf-8") as config:
        config.write("primary_slot_name = 'standby'\nhot_standby_feedback = on\nsync_replication_slots = on\n"
                     f"primary_conninfo = 'host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres'\n")
    with open(f"{standby.data}/postgresql.auto.conf", "w", encoding="utf-8"):
        pass
    standby.start()
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(), RULES).start()
    try:
        evictd.stop()
        keep_on_standbys(postgres, "evictd")
        evictd.start()

        def is_kept():
            # Its restart_lsn and catalog_xmin have to reach what the standby holds: evictd confirms, and these make them move.
            postgres.execute("update products set name = name || '.' where id = 1; select pg_log_standby_snapshot()")
            return standby.value("select synced and not temporary from pg_replication_slots where slot_name = 'evictd'")

        eventually("the standby has the slot", is_kept, 60, every=0.5)
        fail_over(postgres, standby, cache, evictd, "epoch_changed")
    finally:
        evictd.stop()
        standby.stop()
