"""What invalidations by similarity cost, and how many of the elements they find: evictd over a vector set of Redis 8.

    tests/bench/semantic.py [--elements N] [--dimensions D] [--invalidations N] [--kept FILE]

Elements lie in clusters, as answers to like questions do. Recall is told against an exact scan of our own, of the vectors as
they were given, before quantisation: of the elements that have to go, how many are gone after the first search, and after the
second. Loading takes longest: a million elements of 384 dimensions want 2 GiB and, on two cores, most of an hour; `--kept` saves
what was loaded, or takes what was saved there by a run of the same size.
"""

import argparse
import collections
import concurrent.futures
import os
import shutil
import sys
import time

import numpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import daemon, process, servers, vectors  # noqa: E402
from harness.waiting import eventually  # noqa: E402

RULES = """
- table: public.documents
  settle: 1s
  semantic:
    - {index: answers, near: embedding, min_similarity: 0.8}
"""
LOADERS = 4
NOISE = 0.28  # of each of two others, beside a cluster's own direction


class World:
    def __init__(self, dimensions, clusters):
        self.random = numpy.random.default_rng(7)
        self.pool = self.units(self.random.standard_normal((clusters + 500, dimensions), dtype="f4"))
        self.clusters = clusters

    @staticmethod
    def units(matrix):
        return (matrix / numpy.linalg.norm(matrix, axis=1, keepdims=True)).astype("f4")

    def near(self, clusters):
        """One vector near the middle of each of these clusters."""
        one, other = (self.pool[self.random.integers(len(self.pool), size=len(clusters))] for _ in range(2))
        return self.units(self.pool[clusters] + NOISE * one + NOISE * other)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--elements", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--invalidations", type=int, default=300)
    parser.add_argument("--kept", metavar="FILE", help="of the loaded set, for runs to come")
    options = parser.parse_args()
    folder = process.temporary_folder()
    try:
        measure(options, folder)
    finally:
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)


def measure(options, folder):
    world = World(options.dimensions, max(options.invalidations, options.elements // 20))
    postgres = servers.Postgres(f"{folder}/postgres").start()
    postgres.execute("create database shop", database="postgres")
    postgres.execute("create table documents (id int primary key, embedding text); alter table documents replica identity full")
    os.makedirs(f"{folder}/redis")
    is_kept = options.kept is not None and os.path.exists(options.kept)
    if is_kept:
        shutil.copy(options.kept, f"{folder}/redis/dump.rdb")
    redis = vectors.VectorServer("vset", f"{folder}/redis").start()
    client = redis.client()
    begin = time.monotonic()
    stored = load(world, redis, options.elements, is_kept)
    assert client.execute_command("VCARD", "answers") == options.elements
    if options.kept is not None and not is_kept:
        client.save()
        shutil.copy(f"{folder}/redis/dump.rdb", options.kept)
    print(f"{options.elements} elements of {options.dimensions} dimensions loaded in {time.monotonic() - begin:.0f} s, "
          f"{client.info('memory')['used_memory'] / 2**20:.0f} MiB", flush=True)
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(), redis.url(), RULES).start()
    rows = world.near(numpy.arange(options.invalidations))
    wanted = set(numpy.flatnonzero(scan(stored, rows) >= 0.8))
    cursor = postgres.connect().cursor()
    before = evictd.cpu_seconds(), redis.cpu_seconds()
    begin = time.monotonic()
    for number, row in enumerate(rows):
        cursor.execute("insert into documents values (%s, %s)", (number, "[" + ",".join(f"{part:.8g}" for part in row) + "]"))
    written = time.monotonic() - begin
    invalidated = lambda: evictd.metrics().get("evictd_invalidation_latency_seconds_count", cache="redis") or 0  # noqa: E731
    try:
        eventually("every order was carried out", lambda: invalidated() >= options.invalidations, 600)
    except AssertionError:
        print(f"{invalidated():.0f} of them were; evictd says:\n{evictd.log_tail(20)}", flush=True)
        raise
    took = time.monotonic() - begin
    left = {int(name) for name in members(client, options.elements)}
    once = recall(wanted, left)
    used = evictd.cpu_seconds() - before[0], redis.cpu_seconds() - before[1]
    removed = options.elements - len(left)
    eventually("and once more", lambda: not evictd.metrics().sum("evictd_inflight_transactions"), 600)
    twice = recall(wanted, {int(name) for name in members(client, options.elements)})
    print(f"{options.invalidations} rows, committed in {written:.1f} s, were carried out in {took:.1f} s: {options.invalidations / took:.0f} "
          f"invalidations per second, {removed} elements removed; CPU: evictd {used[0]:.1f} s, Redis {used[1]:.1f} s")
    print(f"recall against an exact scan, {len(wanted)} elements: {once:.4f} after the first search, {twice:.4f} after the second")


def load(world, redis, elements, is_kept):
    """Redis looks for an element's neighbours beside its one thread (CAS), one element of a connection at a time. -> the vectors"""
    stored, under_way = [], collections.deque()

    def send(first, batch):
        with redis.client().pipeline(transaction=False) as pipe:
            for number, vector in enumerate(batch, first):
                pipe.execute_command("VADD", "answers", "FP32", vector.tobytes(), str(number), "CAS")
            pipe.execute()

    with concurrent.futures.ThreadPoolExecutor(LOADERS) as loaders:
        for first in range(0, elements, 500):
            batch = world.near(numpy.arange(first, min(first + 500, elements)) % world.clusters)
            stored.append(batch)
            if is_kept:
                continue
            under_way.append(loaders.submit(send, first, batch))
            if len(under_way) >= 2 * LOADERS:
                under_way.popleft().result()
        for one in under_way:
            one.result()
    return numpy.concatenate(stored)


def scan(stored, rows):
    """-> how like each stored vector is to the row that is most like it."""
    return numpy.concatenate([(stored[first:first + 10_000] @ rows.T).max(axis=1) for first in range(0, len(stored), 10_000)])


def members(client, most):
    return client.execute_command("VRANDMEMBER", "answers", str(most)) or []


def recall(wanted, left):
    return 1 - len(wanted & left) / max(1, len(wanted))


if __name__ == "__main__":
    main()
