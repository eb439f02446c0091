"""The built evictd where the system around it gives it little: a log that nobody reads, descriptors that are used up."""

import fcntl
import os
import resource
import socket

from harness.waiting import eventually, stays

RULES = "rules:\n  - {table: products, keys: [\"product:{id}\"]}\n"


def change_is_followed(postgres, cache):
    cache.set("product:1", "old")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the key is gone", lambda: cache.get("product:1") is None)


def test_a_log_that_nobody_reads_stops_nothing(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES)
    os.mkfifo(evictd.log)
    reader = os.open(evictd.log, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(evictd.log, os.O_WRONLY | os.O_NONBLOCK)
    fcntl.fcntl(filler, fcntl.F_SETPIPE_SZ, 4096)
    try:
        while True:
            os.write(filler, b"x" * 512)
    except BlockingIOError:
        pass
    evictd.start(ready=False)
    eventually("evictd is ready", evictd.is_ready)
    change_is_followed(postgres, cache)
    os.close(filler)
    assert evictd.stop() == 0
    os.close(reader)
    os.replace(evictd.log, evictd.log + ".fifo")
    with open(evictd.log, "w", encoding="utf-8"):
        pass  # whoever shows the log of a failed test must not wait for the pipe


def test_descriptors_that_are_used_up_are_failed_tries(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    idle = [socket.create_connection(("127.0.0.1", evictd.port)) for _ in range(40)]
    open_now = len(os.listdir(f"/proc/{evictd.process.pid}/fd"))
    before = resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE, (4, before[1]))
    cache.client_kill_filter(_type="normal", skipme=True)
    eventually("the loss is seen", lambda: not evictd.is_ready())
    spent = evictd.cpu_seconds()
    stays("evictd runs", evictd.is_running, 3)
    assert evictd.cpu_seconds() - spent < 1.5, "it spins"
    assert open_now > 4
    resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE, before)
    eventually("evictd is ready again", evictd.is_ready)
    change_is_followed(postgres, cache)
    for one in idle:
        one.close()
    assert evictd.stop() == 0
