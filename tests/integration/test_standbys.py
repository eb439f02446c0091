"""PostgreSQL's standbys: the stream read from one (16 and later), and a slot that is kept on one (17 and later)."""

import os
import socket
import subprocess
import threading

import pytest

from harness import daemon, oracle
from harness.waiting import eventually
from hostile.middle import Middle
from readers.standby import Standby, either, fail_over

RULES = "- {table: products, keys: ['product:{id}']}\n"
SENDER = "select active_pid from pg_replication_slots where slot_name = 'evictd'"


@pytest.fixture(name="make_standby")
def standbys_of_the_primary(folder):
    made = []

    def make(primary, **settings):
        one = Standby(f"{folder}/standby{len(made)}", primary, 0)
        with open(f"{one.data}/postgresql.conf", "a", encoding="utf-8") as config:
            for name, value in settings.items():
                config.write(f"{name} = '{value}'\n")
        made.append(one)
        return one.start()

    yield make
    for one in made:
        one.stop()


def test_a_standby_is_followed_once_it_is_the_primary(postgres, redis, cache, make_standby, folder):
    """PostgreSQL 16 and later would decode there as well."""
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", standby.url(), redis.url(), RULES)
    checked = evictd.command("check")
    assert checked.returncode == 2 and "PG004 error" in checked.stdout, checked.stdout
    evictd.start(ready=False)
    try:
        eventually("readiness says why", lambda: "expected a primary server, got a standby" in evictd.http("/readyz")[1])
        postgres.stop("immediate")
        standby.execute("select pg_promote()")
        evictd.wait_until_ready()
        cache.set("product:7", "old")
        standby.execute("update products set name = name || '.' where id = 7")
        eventually("the key is gone", lambda: not cache.exists("product:7"))
    finally:
        evictd.stop()


def test_a_failover_takes_what_only_the_old_primary_had(postgres, redis, cache, make_standby, folder):
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(), RULES).start()
    try:
        fail_over(postgres, standby, cache, evictd, "slot_missing")
    finally:
        evictd.stop()


def test_an_old_primary_that_streams_on_is_left_for_the_one_that_answers(postgres, redis, cache, make_standby, folder):  # G6
    """Something in between sends new connections to the new primary, which has a slot and a publication of the same names; nobody has
    ended the old one. What is written to the new one comes in no stream that evictd reads."""
    standby = make_standby(postgres)
    between = Middle(postgres.port)
    evictd = daemon.Evictd(f"{folder}/evictd", f"{postgres.url(port=between.port)}?sslmode=disable", redis.url(), RULES).start()
    try:
        standby.execute("select pg_promote()")
        standby.execute("select pg_create_logical_replication_slot('evictd', 'pgoutput')")
        between.target_port = standby.port
        postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                         " where application_name like 'evictd%' and backend_type = 'client backend'")
        cache.set("product:7", "old")
        standby.execute("update products set name = name || '.' where id = 7")
        eventually("the key is gone", lambda: not cache.exists("product:7"), 30)
        assert "nobody uses slot 'evictd'" in evictd.log_text()
        evictd.wait_until_ready()
    finally:
        evictd.stop()
        between.stop()


def test_what_a_reader_of_the_lost_history_fills_after_the_repair_does_not_stay(postgres, redis, cache, make_standby, folder):  # G3, G6
    """Its snapshot has seen more transactions than the new primary has had, by their numbers: no floor refuses it, and what changes next
    would count as seen."""
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(),
                           "- {table: products, keys: ['product:{id}'], fill: checked}\n", redis_more="tombstone_ttl: 8s").start()

    def fill(value, token):
        return cache.execute_command("FCALL", "evictd_fill", 2, "product:50", "evictd:{product:50}", token, 600_000, value)

    def read(server):
        return server.execute("select name, pg_current_snapshot()::text from products where id = 50")[0]

    try:
        standby.execute("alter system set primary_conninfo = ''")
        standby.execute("select pg_reload_conf()")
        eventually("the standby hears no more of its primary", lambda: standby.value("select count(*) from pg_stat_wal_receiver") == 0)
        for _ in range(50):
            postgres.execute("update products set name = 'lost' where id = 50")
        lost = read(postgres)
        assert lost[0] == "lost"
        postgres.stop("immediate")
        standby.execute("select pg_promote()")
        eventually("it is repaired", lambda: "repaired: slot_missing" in evictd.log_text(), 60)
        assert fill(*lost) == 1, "nothing refuses it"
        standby.execute("update products set name = 'new' where id = 50")
        eventually("it is gone", lambda: cache.get("product:50") != b"lost", 20)
        eventually("the gap is closed", lambda: not cache.get("evictd:record:evictd").count(b"slot_missing"), 20)
        assert evictd.metrics().sum("evictd_gaps_total") == 1
        evictd.wait_until_ready()
    finally:
        evictd.stop()


def promote(standby):
    standby.execute("select pg_promote()")
    eventually("it is a primary", lambda: not standby.value("select pg_is_in_recovery()"))


def assert_follows(server, evictd, cache):
    cache.set("product:8", "old")
    server.execute("update products set name = name || '.' where id = 8")
    eventually("its changes are followed", lambda: not cache.exists("product:8"), 30)
    evictd.wait_until_ready()


@pytest.mark.parametrize("moment", ["its connection breaks", "it starts", "the standby is promoted"])
def test_an_old_primary_beside_the_one_that_was_promoted_is_not_followed(postgres, redis, cache, make_standby, folder, moment):  # G6
    """Both can be written to, and the old one comes first in the URL."""
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(), RULES).start()
    try:
        if moment == "the standby is promoted":
            cache.set("product:50", "of a transaction that only the old primary had")
            promote(standby)
            eventually("what may be of the old primary alone is purged", lambda: not cache.exists("product:50"), 30)
            assert f"of timeline 1, but 127.0.0.1:{standby.port} is the primary of timeline 2: following that one" in evictd.log_text()
        else:
            postgres.stop("immediate")
            promote(standby)
            assert_follows(standby, evictd, cache)
            if moment == "it starts":
                evictd.stop()
            postgres.start()
            if moment == "it starts":
                evictd.start(ready=False)
            else:
                gaps = evictd.metrics().sum("evictd_gaps_total")
                sender = standby.value(SENDER)
                standby.execute("select pg_terminate_backend(%s)", (sender,))
                eventually("it has connected anew", lambda: standby.value(SENDER) not in (None, sender), 30)
                assert_follows(standby, evictd, cache)
                assert evictd.metrics().sum("evictd_gaps_total") == gaps, "it went by the old primary"
        assert_follows(standby, evictd, cache)
        assert_follows(standby, evictd, cache)
    finally:
        evictd.stop()


class StandbyBeside(Standby):
    """On another address, and the primary's port."""

    address = "127.0.0.2"

    def _configure(self):
        self.port = self.primary.port
        self.settings["listen_addresses"] = self.address
        super()._configure()

    def url(self, database="shop", user="postgres", port=None):
        return super().url(database, user, port).replace("127.0.0.1", self.address)


def with_names(evictd, hosts):
    """Its process sees another /etc/hosts."""
    with open(f"{evictd.folder}/hosts", "w", encoding="ascii") as file:
        file.write(hosts)
    script = f"{evictd.folder}/with_names"
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {evictd.folder}/hosts /etc/hosts && exec \"$0\" \"$@\"' {evictd.program} \"$@\"\n")
    os.chmod(script, 0o755)
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("no mount namespace of our own: not root")
    evictd.program = script
    return evictd


@pytest.mark.parametrize("knows_both", [True, False], ids=["both at once", "the other one later"])
def test_of_the_addresses_of_one_name_the_later_primary_is_followed(postgres, redis, cache, folder, knows_both):  # G6
    """All hosts of a group under one name: the old primary, which nobody has ended, comes first."""
    standby = StandbyBeside(f"{folder}/standby", postgres, 0).start()
    url = f"postgresql://postgres@database:{postgres.port}/shop?target_session_attrs=read-write"
    names = ["127.0.0.1 database\n", "127.0.0.2 database\n"]
    evictd = with_names(daemon.Evictd(f"{folder}/evictd", url, redis.url(), RULES), "".join(names[:1 + knows_both])).start()
    try:
        cache.set("product:50", "of a transaction that only the old primary had")
        promote(standby)
        with open(f"{evictd.folder}/hosts", "w", encoding="ascii") as file:
            file.write("".join(names))
        eventually("what may be of the old primary alone is purged", lambda: not cache.exists("product:50"), 30)
        assert (f"database:{postgres.port} (127.0.0.1) can be written to and is of timeline 1, but database:{postgres.port} (127.0.0.2) is the"
                " primary of timeline 2: following that one") in evictd.log_text()
        assert_follows(standby, evictd, cache)
        gaps, sender = evictd.metrics().sum("evictd_gaps_total"), standby.value(SENDER)
        standby.execute("select pg_terminate_backend(%s)", (sender,))
        eventually("it has connected anew", lambda: standby.value(SENDER) not in (None, sender), 30)
        assert_follows(standby, evictd, cache)
        assert evictd.metrics().sum("evictd_gaps_total") == gaps, "it went by the old primary"
    finally:
        evictd.stop()
        standby.stop("immediate")


def test_a_host_that_says_nothing_hides_no_other_that_was_promoted(postgres, redis, cache, make_standby, folder):  # G6
    """It takes connections, and would be waited for by itself for longer than the test."""
    standby = make_standby(postgres)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (postgres.port, silent.getsockname()[1], standby.port))
        url = f"postgresql://postgres@{hosts}/shop?target_session_attrs=read-write&connect_timeout=600"
        evictd = daemon.Evictd(f"{folder}/evictd", url, redis.url(), RULES).start()
        try:
            silent.settimeout(30)
            waits, _ = silent.accept()
            asked = "select count(*) from pg_stat_activity where application_name = 'evictd' and datname = 'shop'"
            eventually("the standby is asked, on a session that is kept", lambda: standby.value(asked) == 1)
            promote(standby)
            assert_follows(standby, evictd, cache)
            waits.close()
        finally:
            evictd.stop()


class Balancer:
    """One address for two servers: sessions of the name `application` go to the second, all others to the first."""

    def __init__(self, first, second, application):
        self.ports = (first.port, second.port)
        self.application = application.encode()
        self.sent_to_second = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            first = client.recv(65536)
            if len(first) == 8:  # may it be TLS?
                client.sendall(b"N")
                first = client.recv(65536)
            is_second = self.application in first
            self.sent_to_second += is_second
            server = socket.create_connection(("127.0.0.1", self.ports[is_second]))
            server.sendall(first)
        except OSError:
            client.close()
            return
        threading.Thread(target=self.pump, args=(server, client), daemon=True).start()
        self.pump(client, server)

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_a_standby_that_is_asked_can_shut_down_smartly(postgres, redis, make_standby, folder):  # G7
    """It takes no new session, and waits for those that there are."""
    standby = make_standby(postgres)
    evictd = daemon.Evictd(f"{folder}/evictd", either(postgres, standby), redis.url(), RULES).start()
    try:
        eventually("evictd asks it", lambda: standby.value("select count(*) from pg_stat_activity where application_name = 'evictd'"), every=0.01)
        assert standby.stop("smart", patience=30) == 0
        assert evictd.is_ready()
    finally:
        evictd.stop()


def test_rows_that_a_standby_does_not_have_yet_are_no_rows_that_are_not_there(postgres, redis, cache, make_standby, folder):  # G10
    """A balancer before primary and standby hands the lookups' session to the standby, which is behind."""
    rules = "- {table: reviews, via: {product: {table: products, match: {id: product_id}}}, keys: ['page:{product.slug}']}\n"
    standby = make_standby(postgres, recovery_min_apply_delay="1h")
    balancer = Balancer(postgres, standby, "evictd lookups")
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(port=balancer.port), redis.url(), rules).start()
    try:
        postgres.execute("insert into products values (900, 'new-one', 'New', 1, 1)")
        oracle.wait_until_acknowledged(postgres, "evictd")  # its second delete too
        cache.set("page:new-one", "old")
        postgres.execute("insert into reviews (product_id, rating, body) values (900, 5, 'fine')")
        eventually("the page is gone", lambda: not cache.exists("page:new-one"))
        assert balancer.sent_to_second > 0
        eventually("readiness says why", lambda: "expected the primary, got a standby" in evictd.http("/readyz")[1])
        balancer.application = b"nobody"
        evictd.wait_until_ready(60)
    finally:
        evictd.stop()
        balancer.close()
