"""A private Redis Cluster: masters with replicas, each a Redis of servers.py, and what an operator does to it."""

import contextlib
import signal

import redis
from redis.cluster import RedisCluster

from . import process, servers
from .waiting import eventually

SLOTS = 16384


class Cluster:
    def __init__(self, folder, masters=3, replicas_each=1, options=()):
        self.folder = folder
        self.options = list(options)
        self.nodes, self.bus_ports, self.ids = [], [], []
        for _ in range(masters * (1 + replicas_each)):
            self._start_node()
        for number in range(masters):
            first, last = SLOTS * number // masters, SLOTS * (number + 1) // masters - 1
            self.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for index in range(1, len(self.nodes)):
            self._meet(index)
        eventually("the nodes know each other", lambda: all(len(self.lines(i)) == len(self.nodes) for i in self.running()), 30)
        for index in range(masters, len(self.nodes)):
            of = self.ids[(index - masters) // replicas_each]
            eventually("a replica may be made", lambda: self._try(index, "CLUSTER", "REPLICATE", of), 30)
        self.wait_until_well()

    def _start_node(self):
        bus_port = process.free_port()
        node = servers.Redis(f"{self.folder}/node{len(self.nodes)}",
                             ["--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "1500",
                              "--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0", *self.options])
        node.options = [option for option in node.options]
        node.start()
        self.nodes.append(node)
        self.bus_ports.append(bus_port)
        self.ids.append(node.client().execute_command("CLUSTER MYID").decode())
        return len(self.nodes) - 1

    def _meet(self, index):
        self.ask(0, "CLUSTER", "MEET", "127.0.0.1", self.nodes[index].port, self.bus_ports[index])

    def ask(self, index, *words):
        connection = redis.Connection(host="127.0.0.1", port=self.nodes[index].port, socket_timeout=10)
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            connection.disconnect()

    def _try(self, index, *words):
        try:
            return self.ask(index, *words)
        except redis.RedisError:
            return None

    def running(self):
        return [i for i, node in enumerate(self.nodes) if node.process.poll() is None]

    def lines(self, asked):
        return self.ask(asked, "CLUSTER", "NODES").decode().splitlines()

    def masters(self, asked=None):
        """The indexes of the masters with slots, by the word of a node."""
        asked = self.running()[0] if asked is None else asked
        found = []
        for line in self.lines(asked):
            words = line.split()
            if "master" in words[2] and "fail" not in words[2] and len(words) > 8:
                found.append(self.ids.index(words[0]))
        return found

    def replica_of(self, index):
        for line in self.lines(index):
            words = line.split()
            if words[3] == self.ids[index] and "fail" not in words[2]:
                return self.ids.index(words[0])
        return None

    def owner_of(self, key, asked=None):
        return self.owner_of_slot(self.slot_of(key), asked)

    def slot_of(self, key):
        return self.ask(self.running()[0], "CLUSTER", "KEYSLOT", key)

    def owner_of_slot(self, slot, asked=None):
        asked = self.running()[0] if asked is None else asked
        for first, last, master, *_ in self.ask(asked, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self.ids.index(master[2].decode())
        raise AssertionError(f"nobody serves slot {slot}")

    def is_well(self):
        """All who run agree on who serves what, and their replicas are in step."""
        seen = set()
        for index in self.running():
            if b"cluster_state:ok" not in self.ask(index, "CLUSTER", "INFO"):
                return False
            seen.add(str(sorted((first, last, master[2]) for first, last, master, *_ in self.ask(index, "CLUSTER", "SLOTS"))))
            info = self.ask(index, "INFO", "replication")
            if b"role:slave" in info and b"master_link_status:up" not in info:
                return False
        return len(seen) == 1

    def wait_until_well(self, seconds=60):
        def well():
            with contextlib.suppress(redis.RedisError, OSError):
                return self.is_well()
            return False

        eventually("the cluster is well", well, seconds)

    # What happens to it.

    def kill(self, index):
        self.nodes[index].stop()

    def pause(self, index):
        self.nodes[index].process.send_signal(signal.SIGSTOP)

    def resume(self, index):
        self.nodes[index].process.send_signal(signal.SIGCONT)

    def restart(self, index):
        self.nodes[index].start()

    def fail_over(self, index, *how):
        """By hand: the replica of a master takes its place."""
        replica = self.replica_of(index)
        assert replica is not None, f"node {index} has no replica"
        eventually("the replica takes over", lambda: self._try(replica, "CLUSTER", "FAILOVER", *how), 30)
        eventually("it has taken over", lambda: replica in self.masters(replica), 30)
        return replica

    def move_slot(self, slot, source, target):
        """As redis-cli does it."""
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])
        while True:
            keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 20)
            if not keys:
                break
            self.ask(source, "MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 5000, "KEYS", *keys)
        for index in [target, source, *self.masters(source)]:
            self._try(index, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])

    def add_master(self):
        index = self._start_node()
        self._meet(index)
        eventually("all know the new node", lambda: all(len(self.lines(i)) == len(self.nodes) for i in self.running()), 30)
        self.wait_until_well()
        return index

    def client(self):
        port = self.nodes[self.running()[0]].port
        return RedisCluster(host="127.0.0.1", port=port, socket_timeout=2)

    def url(self):
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def stop(self):
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
            node.stop()
