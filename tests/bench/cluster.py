"""The same load into one server and into a cluster of three masters on the same machine: what a key costs evictd and Redis when each
is a command of its own, sent to the master of its slot."""

import statistics

import latency
import workload
from harness import cluster as clusters
from harness import daemon
from redis.crc import key_slot

SERVERS = ("one server", "cluster of 3 masters")
FILLS = ("plain", "checked")


def measure(bench, rows, publication, say):
    cluster = clusters.Cluster(f"{bench.folder}/cluster", masters=3, replicas_each=0)
    bench.prepare(rows)
    daemons = {}
    for number in range(bench.options.rounds):
        for fill in FILLS:
            daemons[number, "one server", fill] = bench.new_evictd(fill)
            daemons[number, "cluster of 3 masters", fill] = new_evictd(bench, cluster, fill, publication)
    workload.one_transaction(bench.postgres, rows)
    end_lsn = workload.end_of_load(bench.postgres)
    results = {f"{name}, {fill}": [] for fill in FILLS for name in SERVERS}
    for (number, name, fill), one in daemons.items():
        cache_all = (lambda: cache_all_of(cluster, rows)) if name != "one server" else None
        result = bench.drain_by_evictd(one, rows, end_lsn, are_cached=True, cache_all=cache_all)
        results[f"{name}, {fill}"].append(result)
        say(f"  round {number + 1}: {name}, {fill}: {result['rows_per_second']:,.0f} rows/s, Redis {result['redis_us_per_row']:.2f} us per key")
    bench.drop_slots()
    bench.prepare(100_000)
    latencies = {}
    for fill in FILLS:
        one = new_evictd(bench, cluster, fill, publication)
        one.start()
        latencies[fill] = latency.measure(bench.postgres, cluster.client(), one, bench.options.seconds)
        assert one.stop() == 0
        clear(cluster)
    bench.drop_slots()
    cluster.stop()
    return {"rows": rows, "rounds": results, "latency": latencies,
            "median": {name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]} for name, rounds in results.items()}}


def new_evictd(bench, cluster, fill, publication):
    bench.daemons += 1
    one = daemon.Evictd(f"{bench.folder}/evictd{bench.daemons}", bench.postgres.url(), cluster.url(), workload.RULES % fill,
                        slot=f"evictd{bench.daemons}", publication=publication)
    one.database, one.caches, one.servers = 0, 1, cluster.nodes
    one.clear = lambda: clear(cluster)
    one.start()
    code = one.stop()
    assert code == 0, f"evictd ended with {code}:\n{one.log_tail()}"
    return one


def clear(cluster):
    """All but the records: those of daemons that are still to run are among them."""
    for node in cluster.nodes:
        client = node.client()
        pipeline = client.pipeline(transaction=False)
        for name in client.scan_iter(count=1000):
            if name.startswith(b"evictd:record"):
                continue
            pipeline.unlink(name)  # one by one: they lie in as many slots
            if len(pipeline) == workload.PIPELINE:
                pipeline.execute()
        pipeline.execute()


def cache_all_of(cluster, rows):
    """Each value at the master of its slot, by pipelines."""
    owners = [None] * clusters.SLOTS
    for first, last, master, *_ in cluster.ask(0, "CLUSTER", "SLOTS"):
        index = cluster.ids.index(master[2].decode())
        owners[first:last + 1] = [index] * (last + 1 - first)
    pipelines = [node.client().pipeline(transaction=False) for node in cluster.nodes]
    for number in range(1, rows + 1):
        name = workload.key(number)
        pipelines[owners[key_slot(name.encode())]].set(name, workload.VALUE)
        if number % (workload.PIPELINE * len(pipelines)) == 0 or number == rows:
            for pipeline in pipelines:
                pipeline.execute()


def table(report):
    lines = [f"{report['rows']:,} rows in one transaction, values cached: one server, and a cluster of three on the same machine",
             f"  {'':32} {'rows/s':>9} {'CPU us/row':>11} {'Redis us/key':>13}"]
    for name, one in report["median"].items():
        lines.append(f"  {name:32} {one['rows_per_second']:>9,.0f} {one['cpu_us_per_row']:>11.2f} {one['redis_us_per_row']:>13.2f}")
    for fill, one in report["latency"].items():
        lines.append(f"  cluster, {fill}: at {one['transactions_per_second']:,.0f} transactions/s a key goes {one['histogram']['p50_ms']:.2f} ms (p50), "
                     f"{one['histogram']['p99_ms']:.2f} ms (p99) after its commit")
    return lines
