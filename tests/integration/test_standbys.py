"""PostgreSQL's standbys: the stream read from one (16 and later), and a slot that is kept on one (17 and later)."""

import socket
import threading

import pytest

from harness import daemon, oracle
from harness.waiting import eventually
from readers.standby import Standby, either, fail_over

RULES = "- {table: products, keys: ['product:{id}']}\n"


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
