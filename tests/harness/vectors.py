"""Servers with indexes of vectors, and the two kinds of index behind one face: a vector set, and one of RediSearch."""

import json
import math
import os
import struct
import subprocess
import sys

from . import daemon, servers

FETCH = os.path.join(daemon.ROOT, "tests/matrix/fetch.py")
NEEDS = {"vset": ["redis-8.2"], "search": ["valkey-9.1", "redisearch"]}
DIMENSIONS = 8


def programs(engine):
    """-> the files that the engine needs."""
    folder = os.path.join(os.environ.get("EVICTD_BINARY_DIR", os.path.join(daemon.ROOT, "build/dev")), "matrix")
    done = subprocess.run([sys.executable, FETCH, folder, *NEEDS[engine]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=200)
    if done.returncode != 0:
        raise servers.ServerMissing(f"no server with '{engine}': {done.stderr.strip()[-300:]}")
    return [line.split(" ", 1)[1] for line in done.stdout.splitlines()]


def need(engine):
    """Skips the test when the engine cannot be had; with EVICTD_REQUIRE_SERVERS=1 that is a failure."""
    import pytest  # pylint: disable=import-outside-toplevel

    try:
        programs(engine)
    except servers.ServerMissing as missing:
        assert os.environ.get("EVICTD_REQUIRE_SERVERS") != "1", missing
        pytest.skip(str(missing))


class VectorServer(servers.Redis):
    """A private server that has the engine."""

    def __init__(self, engine, folder):
        files = programs(engine)
        super().__init__(folder, ["--loadmodule", files[1]] if engine == "search" else [])
        self.program = files[0]


def floats(vector):
    return struct.pack(f"{len(vector)}f", *vector)


def direction(angle, plane=0):
    """A vector of length one in a plane of two dimensions; the cosine of two of one plane is that of their angles."""
    vector = [0.0] * DIMENSIONS
    vector[2 * plane] = math.cos(angle)
    vector[2 * plane + 1] = math.sin(angle)
    return vector


class Answers:
    """An index of answers, and the key that holds each answer's text."""

    def __init__(self, engine, client, name="llm:answers"):
        self.engine = engine
        self.client = client
        self.name = name
        self.prefix = f"doc:{name}:"

    def create(self, separator=None):
        if self.engine == "search":
            more = ["SEPARATOR", separator] if separator else []
            self.client.execute_command(
                "FT.CREATE", self.name, "ON", "HASH", "PREFIX", "1", self.prefix, "SCHEMA", "source", "TAG", *more, "tenant", "TAG",
                "year", "NUMERIC", "embedding", "VECTOR", "HNSW", "6", "TYPE", "FLOAT32", "DIM", str(DIMENSIONS), "DISTANCE_METRIC",
                "COSINE")
        return self

    def add(self, element, vector, **attributes):
        """The text first, then the element that leads to it."""
        self.client.set(self.key_of(element), f"answer {element}")
        if self.engine == "vset":
            self.client.execute_command("VADD", self.name, "FP32", floats(vector), element, "SETATTR", json.dumps(attributes))
        else:
            self.client.hset(self.prefix + element, mapping={"embedding": floats(vector), **attributes})

    def key_of(self, element):
        return f"text:{element if self.engine == 'vset' else self.prefix + element}"

    def elements(self):
        """Those that are there, each with its text; a text without its element, or the other way round, is told."""
        if self.engine == "vset":
            count = self.client.execute_command("VCARD", self.name) or 0
            found = {name.decode() for name in self.client.execute_command("VRANDMEMBER", self.name, str(max(count, 1))) or []}
        else:
            found = {key.decode()[len(self.prefix):] for key in self.client.scan_iter(match=self.prefix + "*", count=1000)}
        texts = {key.decode()[len("text:"):].removeprefix(self.prefix) for key in self.client.scan_iter(match="text:*", count=1000)}
        return found | {f"{name} without its element" for name in texts - found} | {f"{name} without its text" for name in found - texts}
