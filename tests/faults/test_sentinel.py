"""Redis behind three Sentinels: the master is killed, or stands still and comes back after it was replaced. A replica that
lacks the last deletes is found out by its record (G6); nothing that is cached in the end is stale."""

import os
import signal

import pytest
import scenarios
from harness import oracle, process, servers
from harness.waiting import eventually
from redis.exceptions import RedisError
from redis.sentinel import Sentinel

NAME = "mymaster"


class Sentinels:
    """A master, a replica, three Sentinels. client() makes clients of whoever is the master."""

    def __init__(self, folder, master, replica):
        self.master, self.replica = master, replica
        self.processes, self.ports = [], []
        for index in range(3):
            home = f"{folder}/sentinel{index}"
            os.makedirs(home)
            port = process.free_port()
            with open(f"{home}/conf", "w", encoding="utf-8") as file:
                file.write(f"sentinel monitor {NAME} 127.0.0.1 {master.port} 2\nsentinel down-after-milliseconds {NAME} 1000\n"
                           f"sentinel failover-timeout {NAME} 5000\n")
            self.processes.append(process.start([servers.redis_program(), f"{home}/conf", "--port", str(port), "--bind", "127.0.0.1",
                                                 "--dir", home, "--sentinel"], log=f"{home}/log"))
            self.ports.append(port)
        self.asked = Sentinel([("127.0.0.1", port) for port in self.ports], socket_timeout=1)
        eventually("the Sentinels know each other and the replica", self._agreed, 30)

    def _agreed(self):
        for sentinel in self.asked.sentinels:
            try:
                state = sentinel.sentinel_master(NAME)
            except RedisError:
                return False
            if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                return False
        return True

    def know_a_replica_that_is_well(self):
        return all(not replica["is_sdown"] and not replica["is_disconnected"] for sentinel in self.asked.sentinels for replica in sentinel.sentinel_slaves(NAME))

    def client(self):
        return self.asked.master_for(NAME, socket_timeout=2)

    def has_replaced_the_master(self):
        return all(sentinel.sentinel_master(NAME)["port"] == self.replica.port for sentinel in self.asked.sentinels)

    def stop(self):
        for one in self.processes:
            process.end(one, signal.SIGKILL)


@pytest.fixture
def sentinels(folder, redis, make_redis):
    replica = make_redis("--replicaof", "127.0.0.1", str(redis.port))
    eventually("the replica is in step", lambda: replica.client().info("replication")["master_link_status"] == "up", 30)
    made = Sentinels(folder, redis, replica)
    yield made
    made.stop()


def started(make_evictd, sentinels, more=""):
    hosts = ", ".join(f"'127.0.0.1:{port}'" for port in sentinels.ports)
    return make_evictd(redis_url=f"redis://{NAME}/0", redis_more=f"sentinels: [{hosts}]\ntimeout: 2s{more}").start()


REPLICAS_ACK = "\nreplicas_ack: 1\nreplicas_timeout: 300ms"


def lacks_its_replica(evictd, master):
    code, text = evictd.http("/readyz")
    assert code == 503, text
    assert f"redis at '127.0.0.1:{master.port}' is confirmed by 0 of its replicas" in text and "asks for 1" in text, text
    assert text.count("'replicas_ack'") == 1, f"told more than once: {text}"
    return True


def run_id(server):
    return server.client().info("server")["run_id"]


def test_a_master_that_is_killed_loses_nothing_that_its_replica_had_to_confirm(postgres, cache, make_evictd, sentinels, seed):
    evictd = started(make_evictd, sentinels, REPLICAS_ACK)
    nothing_is_acknowledged_that_the_replica_has_not(postgres, cache, evictd, sentinels)
    running = scenarios.under_load(postgres, sentinels, seed)
    sentinels.master.stop()
    eventually("the Sentinels have made the replica the master", sentinels.has_replaced_the_master, 60)
    eventually("evictd misses a replica there", lambda: lacks_its_replica(evictd, sentinels.replica), 60)
    writes = running.writes
    eventually("the shop is at work all the same", lambda: running.writes > writes + 50, 60)
    sentinels.master.options += ["--replicaof", "127.0.0.1", str(sentinels.replica.port)]  # the Sentinels would take ten seconds
    sentinels.master.start()
    eventually("evictd is ready again", evictd.is_ready, 60)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, sentinels.replica.client(), at_least=50)
    assert evictd.metrics().sum("evictd_gaps_total", reason="redis_rollback") == 0, "it was purged for nothing"


def nothing_is_acknowledged_that_the_replica_has_not(postgres, cache, evictd, sentinels):
    scenarios.cached(cache, postgres, "product:1", "product:2")
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    sentinels.replica.process.send_signal(signal.SIGSTOP)
    postgres.execute("update products set price_cents = 1 where id = 1")
    end = postgres.value("select pg_current_wal_flush_lsn()::text")
    scenarios.gone(cache, "product:1")
    eventually("/readyz says what is missing", lambda: lacks_its_replica(evictd, sentinels.master))
    postgres.execute("update products set price_cents = 1 where id = 2")
    scenarios.gone(cache, "product:2")
    assert postgres.value("select %s::pg_lsn - confirmed_flush_lsn from pg_replication_slots", (end,)) > 0
    assert "confirmed by 0 of its replicas" in evictd.log_text()
    assert evictd.metrics().sum("evictd_redis_errors_total", **{"class": "too_few_replicas"}) >= 1
    sentinels.replica.process.send_signal(signal.SIGCONT)
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    evictd.wait_until_ready()
    assert evictd.metrics().sum("evictd_reconnects_total", peer="redis") == 0
    eventually("the Sentinels would promote the replica", sentinels.know_a_replica_that_is_well, 30)


def test_a_master_that_stands_still_and_comes_back(postgres, cache, make_evictd, sentinels, seed):  # pylint: disable=unused-argument
    evictd = started(make_evictd, sentinels)
    running = scenarios.under_load(postgres, sentinels, seed)
    old = run_id(sentinels.master)
    sentinels.master.process.send_signal(signal.SIGSTOP)
    eventually("the Sentinels have made the replica the master", sentinels.has_replaced_the_master, 60)
    eventually("evictd works there", evictd.is_ready, 60)
    sentinels.master.process.send_signal(signal.SIGCONT)
    eventually("the old master is a replica", lambda: sentinels.master.client().info("replication")["role"] == "slave", 60)
    writes = running.writes
    eventually("the shop is at work again", lambda: running.writes > writes + 50, 60)
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, sentinels.replica.client(), at_least=50)
    assert run_id(sentinels.master) == old, "it was never restarted"


def test_a_replica_that_lacks_the_last_deletes(postgres, cache, make_evictd, sentinels):
    evictd = started(make_evictd, sentinels)
    scenarios.cached(cache, postgres, "product:1", "product:2")
    eventually("the replica has the values", lambda: sentinels.replica.client().exists("product:1", "product:2") == 2, 30)
    # From here on it gets nothing more.
    sentinels.replica.client().config_set("masteruser", "nobody")
    sentinels.replica.client().config_set("masterauth", "wrong")
    sentinels.master.client().execute_command("client", "kill", "type", "replica")
    eventually("the replica is cut off", lambda: sentinels.replica.client().info("replication")["master_link_status"] == "down", 30)
    postgres.execute("update products set price_cents = 1 where id = 1")
    scenarios.gone(cache, "product:1")
    oracle.wait_until_acknowledged(postgres, evictd.slot)
    assert sentinels.replica.client().exists("product:1"), "it has what was deleted"
    sentinels.master.stop()
    eventually("the Sentinels have made the replica the master", sentinels.has_replaced_the_master, 60)
    eventually("the old values are gone", lambda: not sentinels.replica.client().exists("product:1", "product:2"), 60)
    evictd.wait_until_ready(60)
    assert evictd.metrics().sum("evictd_gaps_total", reason="redis_rollback") == 1
    oracle.converge(postgres, evictd)



def test_one_that_was_set_up_for_another_server_is_outvoted(postgres, cache, make_evictd, make_redis, sentinels):
    """By mistake, or by somebody who moved on and forgot it. It is named first, and its server calls itself master."""
    another = make_redis()
    first = sentinels.asked.sentinels[0]
    first.sentinel_remove(NAME)
    first.sentinel_monitor(NAME, "127.0.0.1", another.port, 2)
    evictd = started(make_evictd, sentinels)
    for product in (1, 2, 3):  # whoever is asked first next time
        scenarios.cached(cache, postgres, f"product:{product}")
        postgres.execute("update products set price_cents = price_cents + 1 where id = %s", (product,))
        scenarios.gone(cache, f"product:{product}")
        connects = evictd.metrics().sum("evictd_reconnects_total", peer="redis")
        cache.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        eventually("it has connected anew", lambda connects=connects: evictd.metrics().sum("evictd_reconnects_total", peer="redis") > connects)
        evictd.wait_until_ready()
    evictd.command("check")
    asked = another.client().info("commandstats")
    assert "cmdstat_scan" not in asked and "cmdstat_acl|whoami" not in asked, f"check looked at the wrong one: {list(asked)}"
    assert not another.client().exists("evictd:record:evictd")
