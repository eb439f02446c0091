"""A private Redis Cluster: masters with replicas, each a Redis of servers.py, and what an operator does to it."""

import contextlib
import signal

import redis
from redis.cluster import RedisCluster

from . import process, proxy, servers
from .waiting import eventually

SLOTS = 16384


class Cluster:
    def __init__(self, folder, masters=3, replicas_each=1, options=(), with_links=False):
        """`with_links`: clients and replicas reach each node through a proxy of its own, which can be told to freeze."""
        self.folder = folder
        self.options = list(options)
        self.with_links = with_links
        self.links = []
        self.nodes, self.bus_ports, self.ids = [], [], []
        self.gone = set()  # nodes that left
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
        if self.with_links:
            self.links.append(proxy.Proxy(node.port))
            node.options += ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(self.links[-1].port),
                             "--cluster-announce-bus-port", str(bus_port)]
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

    def freeze_link(self, index):
        """Nothing passes, nothing is closed: what a lost route looks like. The nodes among themselves notice nothing."""
        self.links[index].tell("hole")

    def thaw_link(self, index, cut=False):
        """What was held up arrives late, or, `cut`, never."""
        if cut:
            self.links[index].tell("cut")
        self.links[index].tell("pass")

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
        eventually(f"slot {slot} is the target's", lambda: self._try(target, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[target]), 30)
        for index in [source, *self.masters(source)]:
            self._try(index, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])

    def reset(self, index):
        """It forgets the cluster, and all it has."""
        eventually("the node is reset", lambda: self.ask(index, "FLUSHALL") and self._try(index, "CLUSTER", "RESET", "HARD"), 30)

    def add_master(self):
        index = self._start_node()
        self._meet(index)
        eventually("all know the new node", lambda: all(len(self.lines(i)) == len(self.nodes) - len(self.gone) for i in self.running()), 30)
        self.wait_until_well()
        return index

    def remove_master(self, index):
        """One that has no slots any more leaves."""
        others = [other for other in self.running() if other != index]
        eventually("nobody thinks that it has slots", lambda: all(index not in self.masters(asked) for asked in self.running()), 30)
        self.kill(index)

        def is_forgotten():
            for other in others:
                if any(self.ids[index] in line for line in self.lines(other)):
                    self._try(other, "CLUSTER", "FORGET", self.ids[index])
            return not any(self.ids[index] in line for other in others for line in self.lines(other))

        eventually("the others have forgotten the node", is_forgotten, 30)
        self.gone.add(index)

    def port_of(self, index):
        """As clients reach it."""
        return self.links[index].port if self.with_links else self.nodes[index].port

    def client(self, **more):
        port = self.port_of(self.running()[0])
        return RedisCluster(host="127.0.0.1", port=port, socket_timeout=2, **more)

    def url(self):
        return "redis://" + ",".join(f"127.0.0.1:{self.port_of(index)}" for index in range(2))

    def stop(self):
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
            node.stop()
        for link in self.links:
            link.stop()
