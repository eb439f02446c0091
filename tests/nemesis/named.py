"""Named scenarios: each a short schedule made by hand for one fault that is known to break pipelines like this one, and what it must
not do. Where a build broken on purpose exists (tests/broken), the scenario is known to catch it."""

import nemesis

# name: (what it is, the world, the rounds, the broken build that it was seen to catch or None)
SCENARIOS = {}


def step(fault, hold, after=0.5, overlaps=False, **more):
    return {"fault": fault, "with": more, "hold": hold, "after": after, "overlaps": overlaps}


def scenario(name, what, *rounds, redis="single", faketime=False, second=None, broken=None, source=None, members=1):
    more = {} if source is None else {"source": source, "members": members}
    SCENARIOS[name] = (what, {"redis": redis, "faketime": faketime, "second": second, **more}, list(rounds), broken)


scenario("killed-again-and-again", "evictd is killed at eight moments under load",
         [step("kill evictd", 0.1, 0.4) for _ in range(8)])
scenario("killed-while-redis-is-slow", "evictd is killed while much is received and little is applied",
         [step("a bad way to redis", 1.5, 0, True, how="delay 300"), step("kill evictd", 0.2, 0.5)],
         [step("a large transaction", 0.1, 0, True, rows=20000), step("a bad way to redis", 1, 0, True, how="delay 50"), step("kill evictd", 0.2)])
scenario("stopped-longer-than-the-server-waits", "evictd stands still for 8 s", [step("freeze evictd", 8)])
scenario("commits-hang", "a synchronous standby is away: commits are decoded long before readers can see them",
         [step("commits hang", 5, 0.5), step("commits hang", 3, 0.5)], broken="evictd_broken_settle")
scenario("postgres-crashes", "PostgreSQL stops as in a crash, five times under load",
         [step("restart postgres", 0.3, 0.8, mode="immediate") for _ in range(5)])
scenario("postgres-process-killed", "a walsender, a backend and the checkpointer are killed", [
    step("a process of postgres dies", 0.5, 1, who=who) for who in ("walsender", "client backend", "checkpointer")])
scenario("postgres-stops-while-redis-is-away", "PostgreSQL wants to stop while nothing can be applied",
         [step("a bad way to redis", 1, 0, True, how="refuse"), step("restart postgres", 1, 1, mode="fast")])
scenario("promoted-without-slot", "an asynchronous standby is promoted; the slot is not there",
         [step("a standby is promoted", 1, 1, slot="none", cut_off=True)], broken="evictd_broken_repair")
scenario("promoted-with-a-late-slot", "a standby is promoted, and somebody makes a slot of the same name on it",
         [step("a standby is promoted", 1, 1, slot="late", cut_off=True)])
scenario("database-set-back", "a copy of the server is put back under the same name: its log goes another way",
         [step("postgres comes back with older data", 2, 1), step("postgres comes back with older data", 1, 1)], broken="evictd_broken_repair")
for how in ("dropped", "dropped while running", "made anew", "read by another", "too much WAL"):
    scenario("slot-" + how.replace(" ", "-"), f"the slot is lost: {how}", [step("the slot is lost", 1.5, 1, how=how)],
             broken="evictd_broken_repair" if how == "dropped" else None)
scenario("table-made-anew", "a table is dropped and made anew, and removed from the publication",
         [step("the schema changes", 1, 1, what="make anew")], [step("the publication changes", 1, 1, what="without a table")])
scenario("publication-dropped", "the publication is dropped, publishes inserts alone, or filters rows",
         *[[step("the publication changes", 1, 1, what=what)] for what in ("dropped", "inserts alone", "only some rows")])
scenario("identities", "the replica identity changes while rows change", [step("the schema changes", 3, 0.5, what="identity")])
scenario("truncated", "tables and one partition are truncated",
         *[[step("truncate", 0.2, 0.5, table=table)] for table in ("items", "notes", "settings", "parts", "parts_1")])
scenario("partitions", "partitions are detached and changed, dropped, swapped",
         *[[step("partitions change", 1, 0.5, how=how)] for how in ("detach and change", "swap", "drop and make", "a new one")])
scenario("rewritten", "columns are rewritten, renamed, swapped: values change without a row in the stream",
         *[[step("the schema changes", 1, 0.5, what=what)] for what in ("rewrite", "rewrite notes", "swap columns", "rename", "add column")],
         broken="evictd_broken_repair")
scenario("large-transactions", "large transactions, also with a slow Redis",
         [step("a large transaction", 0.2, 0.2, rows=20000), step("a bad way to redis", 1, 0, True, how="delay 50"),
          step("a large transaction", 0.2, 0.2, rows=20000)])
scenario("prepared", "transactions are prepared, held, and ended either way",
         [step("a prepared transaction", 3, 0.5, end="commit")], [step("a prepared transaction", 3, 0.5, end="rollback")])
scenario("written-first-committed-last", "transactions that wrote early commit late, others in between",
         [step("a transaction stays open", 1, 0.3, end=end) for end in ("commit", "commit", "rollback", "commit")],
         broken="evictd_broken_dedup")
scenario("silent-database", "the way to PostgreSQL is silent for longer than a stream counts as current",
         [step("a bad way to postgres", 35, 1, how="hole")])
scenario("bad-ways", "sliced, slow and cut connections on both sides",
         [step("a bad way to postgres", 1.5, 0.3, how=how) for how in ("slice 1", "delay 300", "cut_after 700", "cut")],
         [step("a bad way to redis", 1.5, 0.3, how=how) for how in ("slice 1", "delay 300", "cut_after 50", "cut", "hole")])
scenario("two-daemons", "another evictd takes over, and again", [step("another evictd takes over", 1, 1), step("another evictd takes over", 0.2, 1)])
scenario("clocks-jump", "the clock of evictd jumps by hours, days and years, both ways",
         [step("the clock jumps", 2, 0.5, seconds=seconds) for seconds in (3600, -3600, 86400, -86400, 10**8)], faketime=True)
scenario("redis-forgets", "Redis is killed and comes back with nothing, with its data, with older data",
         *[[step("restart redis", 1.5, 0.5, data=data)] for data in ("none", "data", "older")])
scenario("sentinel-failovers", "the master behind the Sentinels dies, stands still, is replaced by one that lacks the last deletes",
         [step("the master dies", 4, 0.5)], [step("the master stands still", 5, 0.5)], [step("the replica lacks the last", 2, 0.5)],
         redis="sentinel")
scenario("cluster-failovers", "masters of a cluster die, stand still, are cut off and replaced, and come back empty before anybody noticed",
         [step("a node dies", hold, 0.5, number=number) for number, hold in enumerate((0.1, 3, 5))],
         [step("a node stands still", 4, 0.5, number=1), step("a link freezes", 4, 0.5, number=2, cut=True)],
         [step("a replica takes over", 0.5, 0.5, number=number, how=how) for number, how in enumerate(([], ["FORCE"], ["TAKEOVER"]))], redis="cluster")
scenario("cluster-master-flushed", "the data of one master is flushed while it runs, the sets of tags that it has among it",
         [step("a master is flushed", 0.5, 1, number=number) for number in range(3)], redis="cluster")
scenario("slots-move", "slots go to another master and come back, also while evictd is killed", [step("slots move", 1, 0.5, number=0, slots=[1, 2, 3])],
         [step("slots move", 1, 0, True, number=1, slots=[4, 5, 6]), step("kill evictd", 0.5, 0.5)], redis="cluster")
for second in ("beside", "behind"):
    scenario(f"second-cache-{second}", f"a second cache, {second} the first, dies, stands still, is parked and comes back",
             *[[step("the second cache dies", hold, 0.5, data=data)] for data, hold in (("none", 1), ("older", 2), ("data", 7))],
             [step("the second cache stands still", 7, 0.5)], [step("restart redis", 1, 0.5, data="older")], second=second)
scenario("redis-refuses", "Redis is full, read-only, lacks replicas or clients, is busy",
         *[[step("redis refuses", 2, 0.5, how=how)] for how in ("full", "read only", "no replicas", "no clients")], [step("redis is busy", 3, 0.5)])
scenario("redis-is-flushed", "scripts, functions, connections and data are flushed under load",
         [step("redis forgets", 0.3, 0.5, what=what) for what in ("script flush", "function flush", "client kill type normal skipme yes", "flushall")])
scenario("redis-away", "Redis cannot be reached for a while; work waits in the database", [step("a bad way to redis", 10, 0.5, how="refuse")])
scenario("rules-change", "a rule goes and comes back, by reload and by restart; a broken file is refused",
         *[[step("a rule goes and comes back", 1, 0.5, restart=restart)] for restart in ("no", "when gone", "when back")],
         [step("a broken rules file", 0.5)])
scenario("disk-full", "PostgreSQL can write no file", [step("postgres can write no file", 1, 1)])
scenario("descriptors-and-memory", "evictd may open nothing more, and gets no memory",
         [step("no descriptors for evictd", 3, 0.5, spare=0), step("no memory for evictd", 2, 0.5, spare=0)])
scenario("passwords-change", "both passwords change, and sessions are ended",
         [step("passwords change", 0.5, 0.5, files_first=first, end_sessions=True) for first in (True, False, False)])

# From Kafka.
scenario("kafka-members-killed", "members of a group are killed, one after the other, while Redis is slow",
         [step("a bad way to redis", 1.5, 0, True, how="delay 300"), step("kill evictd", 0.2, 3)],
         [step("a large transaction", 0.1, 0, True, rows=20000), step("a bad way to redis", 2, 0, True, how="delay 50"), step("kill evictd", 0.2)],
         [step("a member goes", 1, 2, how="killed"), step("another member joins", 2, 2, then="killed")], source="kafka", members=2)
scenario("kafka-broker", "the broker is killed, stopped, stands still, and the way to it is bad",
         [step("restart kafka", 1, 3, how="killed"), step("restart kafka", 1, 3, how="stopped")], [step("kafka stands still", 9, 3)],
         [step("a bad way to kafka", 5, 3, how=how) for how in ("hole", "slice 3", "cut_after 5000", "refuse")], source="kafka", members=2)
scenario("kafka-debezium", "Debezium is killed, stands still, and is made again",
         [step("restart debezium", 1, 3, how="killed")], [step("debezium stands still", 5, 3), step("the connector is made again", 1, 3)], source="kafka")
scenario("kafka-rebalances", "members join, leave, die and sleep", [step("another member joins", 4, 2, then=then) for then in ("stopped", "killed", "stays")],
         [step("a member goes", 2, 2, how="killed"), step("a member sleeps past its session", 9, 2)], source="kafka", members=2)
for meanwhile in ("stopped", "killed", "asleep"):
    scenario(f"kafka-retention-{meanwhile}", f"retention deletes what evictd has not read, while it is {meanwhile}",
             [step("retention overtakes evictd", 3, 2, table=table, meanwhile=meanwhile) for table in ("items", "lines")], source="kafka")
scenario("kafka-redis-forgets", "Redis comes back with older data, and with none, while the group has read on",
         *[[step("restart redis", 1.5, 0.5, data=data)] for data in ("older", "none")], source="kafka")
scenario("kafka-offsets-lost", "the group's offsets are deleted, of all topics and of one",
         [step("the offsets are lost", 2, 2, table=table, how="stopped") for table in (None, "items")], source="kafka", members=2)
scenario("kafka-topic-made-again", "a topic is deleted with what was not read of it, and made again",
         *[[step("a topic is made again", 2, 1, table="items", meanwhile=meanwhile)] for meanwhile in ("asleep", "stopped")], source="kafka", members=2)
scenario("kafka-topic-appears", "a topic appears while a new member still looks up where its partitions begin",
         [step("a bad way to kafka", 0, 0, True, how="delay 150"), step("another member joins", 8, 0, True, then="stays"), step("a topic appears", 8, 2)],
         source="kafka")
scenario("kafka-parked-cache-returns", "a second cache is parked and comes back while the first one has not finished what was received",
         [step("the second cache stands still", 7, 0.9, True), step("the walsender stands still", 1.8, 0.1, True),
          step("a bad way to redis", 1.2, 0.1, True, how="delay 300"), step("a bad way to kafka", 0.5, 0.1, how="slice 1")],
         source="kafka alone", second="behind")
scenario("kafka-commits-hang", "a synchronous standby is away: Debezium sends commits long before readers can see them",
         [step("commits hang", 5, 0.5), step("commits hang", 3, 0.5)], source="kafka", broken="evictd_broken_settle")
scenario("kafka-schema", "tables are truncated and changed, as far as rows tell of it",
         [step("truncate", 0.2, 1, table=table) for table in ("items", "notes", "settings", "parts_1")],
         [step("the schema changes under debezium", 2, 1, what=what) for what in ("add column", "rename", "identity", "a new partition")], source="kafka")


def listing():
    width = max(map(len, SCENARIOS)) + 2
    return "scenarios\n" + "\n".join(f"  {name:{width}}{what}{f'; catches {broken}' if broken else ''}"
                                     for name, (what, _, _, broken) in SCENARIOS.items())


def schedule(name):
    _, world, rounds, _ = SCENARIOS[name]
    return {"seed": name, "world": world, "rounds": rounds}


def play(name, program="evictd", keep=False, quiet=False):
    if name not in SCENARIOS:
        return f"there is no scenario of that name\n{listing()}"
    return nemesis.play(schedule(name), program, quiet=quiet, keep=keep)
