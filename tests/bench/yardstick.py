"""The yardsticks. pg_recvlogical draining the contents of a slot to /dev/null: nothing that reads the same stream from
the same server can be expected to be faster than this by much. A pipeline of UNLINK: no invalidation can ask less of
Redis."""

import os
import resource
import subprocess
import time

import workload


def drain(postgres, slot, publication, end_lsn):
    """Seconds from the start of pg_recvlogical until it has read everything up to `end_lsn`, and its CPU
    seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    subprocess.run(
        [os.path.join(postgres.programs, "pg_recvlogical"), "-d", postgres.url(), "--slot", slot, "--start",
         "--no-loop", "--endpos", end_lsn, "-f", "/dev/null",
         "-o", "proto_version=1", "-o", f"publication_names={publication}"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def unlink(redis, database, rows, are_cached):
    """Microseconds of Redis's CPU for each of `rows` keys deleted by a pipeline."""
    cache = redis.client(database)
    cache.flushdb()
    if are_cached:
        workload.cache_all(cache, rows)
    before = redis.cpu_seconds()
    workload.in_pipelines(cache, lambda pipeline, name: pipeline.unlink(name), rows)
    return (redis.cpu_seconds() - before) / rows * 1e6
