"""Everything at once: a seed draws faults from the other files, under load, one after the other and
sometimes together. Twenty seconds by default, half an hour with --soak."""

import random
import re
import signal
import time

import scenarios
from harness import oracle
from harness.fixtures import soak
from harness.proxy import Proxy

# PostgreSQL gives a table a TOAST table where a row may be long: this one has numbers and a time only.
WITHOUT_TOAST = {"orders"}


def test_random_faults(postgres, redis, cache, make_evictd, seed):
    choice = random.Random(seed)
    to_postgres, to_redis = Proxy(postgres.port), Proxy(redis.port)
    evictd = make_evictd(postgres_url=postgres.url(port=to_postgres.port), redis_url=redis.url(port=to_redis.port),
                         redis_more="timeout: 1s").start()
    running = scenarios.under_load(postgres, redis, seed)

    def restart_postgres():
        postgres.stop(choice.choice(["fast", "immediate"]), patience=30)
        postgres.start()

    def hang_commits():
        postgres.execute("alter system set synchronous_standby_names = 'nobody'")
        postgres.execute("select pg_reload_conf()")
        pause(3)
        postgres.execute("alter system reset synchronous_standby_names")
        postgres.execute("select pg_reload_conf()")

    def stop_redis():
        redis.process.send_signal(signal.SIGSTOP)
        pause(3)
        redis.process.send_signal(signal.SIGCONT)

    def stop_evictd():
        evictd.signal(signal.SIGSTOP)
        pause(3)
        evictd.signal(signal.SIGCONT)

    def bad_way(proxy):
        proxy.tell(choice.choice(["cut", "refuse", "hole", f"cut_after {choice.randint(1, 3000)}", "slice 3"]))
        pause(2)
        proxy.tell("pass")
        proxy.tell("cut")

    def kill_evictd():
        evictd.kill()
        pause(1)
        evictd.start(ready=False)

    def pause(seconds):
        time.sleep(choice.random() * seconds)  # how long a fault lasts is the fault, not a wait for luck

    truncated = set()

    def truncate():
        table = choice.choice(["reviews", "orders", "settings"])
        if table in WITHOUT_TOAST:
            truncated.add(f"public.{table}")
        postgres.execute_under_load(f"truncate {table}")

    faults = {
        "kill evictd": kill_evictd, "kill evictd again": kill_evictd, "stop evictd": stop_evictd,
        "restart postgres": restart_postgres, "hang commits": hang_commits, "stop redis": stop_redis,
        "bad way to postgres": lambda: bad_way(to_postgres), "bad way to redis": lambda: bad_way(to_redis),
        "truncate": truncate,
        "flush scripts": lambda: redis.client().script_flush(),
    }
    deadline = time.monotonic() + (1800 if soak() else 20)
    while time.monotonic() < deadline:
        name = choice.choice(list(faults))
        print(f"fault: {name}", flush=True)
        faults[name]()
        assert evictd.is_running(), f"evictd ended by itself:\n{evictd.log_tail()}"
        pause(1)
    oracle.converge(postgres, evictd, running, seconds=120)
    oracle.assert_true_cache(postgres, cache, at_least=50)
    # None of these loses a part of the stream. One gap is still told: a TRUNCATE replaces the file of a table without
    # TOAST, as a rewrite would, and while nobody reads the two look alike; of a truncated table, and of no other.
    gaps = [line for line in evictd.log_text().splitlines() if "gap in the change stream" in line]
    for line in gaps:
        named = set(re.findall(r"'([\w.]+)'", line.partition(" (hint:")[0]))
        assert "(table_changed)" in line and named and named <= truncated, f"truncated: {truncated}, but: {line}"
    others = evictd.metrics().sum("evictd_gaps_total") - evictd.metrics().sum("evictd_gaps_total", reason="table_changed")
    assert others == 0, "none of these loses a part of the stream"
    to_postgres.stop()
    to_redis.stop()
