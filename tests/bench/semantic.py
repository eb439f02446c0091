"""What invalidations by similarity cost, and how many of the elements they find: evictd over a vector set of Redis 8.

    tests/bench/semantic.py [--elements N] [--dimensions D] [--invalidations N] [--scanned N]

Elements lie in clusters, as answers to like questions do. Recall is told against an exact scan of our own, of the vectors as
they were given, before quantisation: of the elements that have to go, how many are gone after the first search, and after the
second. Loading takes longest: a million elements of 384 dimensions want 2 GiB and, on two cores, most of an hour.
"""

import argparse
import collections
import concurrent.futures
import os
import random
import shutil
import sys
import time
from array import array
from operator import mul

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
        self.random = random.Random(7)
        self.pool = [self.unit([self.random.gauss(0, 1) for _ in range(dimensions)]) for _ in range(clusters + 500)]
        self.clusters = clusters

    @staticmethod
    def unit(vector):
        length = sum(map(mul, vector, vector)) ** 0.5
        return array("f", [number / length for number in vector])

    def near(self, cluster):
        one, other = self.random.choice(self.pool), self.random.choice(self.pool)
        return self.unit([a + NOISE * b + NOISE * c for a, b, c in zip(self.pool[cluster], one, other)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--elements", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--invalidations", type=int, default=300)
    parser.add_argument("--scanned", type=int, default=20, help="invalidations that are compared with an exact scan")
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
    redis = vectors.VectorServer("vset", f"{folder}/redis").start()
    client = redis.client()
    begin = time.monotonic()
    stored = load(world, redis, options.elements)
    print(f"{options.elements} elements of {options.dimensions} dimensions loaded in {time.monotonic() - begin:.0f} s, "
          f"{client.info('memory')['used_memory'] / 2**20:.0f} MiB", flush=True)
    evictd = daemon.Evictd(f"{folder}/evictd", postgres.url(), redis.url(), RULES).start()
    rows = [world.near(number) for number in range(options.invalidations)]
    wanted = [{number for number, vector in enumerate(stored) if sum(map(mul, vector, row)) >= 0.8} for row in rows[:options.scanned]]
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
    print(f"recall against an exact scan of {len(wanted)} of them, {sum(map(len, wanted))} elements: {once:.4f} after the first search, {twice:.4f} after "
          "the second")


def load(world, redis, elements):
    """Redis looks for an element's neighbours beside its one thread (CAS), one element of a connection at a time. -> the vectors"""
    stored, under_way = [], collections.deque()

    def send(first, vectors):
        with redis.client().pipeline(transaction=False) as pipe:
            for number, vector in enumerate(vectors, first):
                pipe.execute_command("VADD", "answers", "FP32", vector.tobytes(), str(number), "CAS", "EF", "100")
            pipe.execute()

    with concurrent.futures.ThreadPoolExecutor(LOADERS) as loaders:
        for first in range(0, elements, 500):
            vectors = [world.near(number % world.clusters) for number in range(first, min(first + 500, elements))]
            stored += vectors
            under_way.append(loaders.submit(send, first, vectors))
            if len(under_way) >= 2 * LOADERS:
                under_way.popleft().result()
        for one in under_way:
            one.result()
    return stored


def members(client, most):
    return client.execute_command("VRANDMEMBER", "answers", str(most)) or []


def recall(wanted, left):
    have_to_go = set().union(*wanted)
    return 1 - len(have_to_go & left) / max(1, len(have_to_go))


if __name__ == "__main__":
    main()
