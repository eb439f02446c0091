"""What one key costs Redis: its own CPU per key for the calls that evictd makes, with batches as evictd sends them (512 keys
of one call, pipelined), beside the plain commands they are made of. Started by itself or by run.sh (`--case scripts`).

  new        a value is there and no marker: deleted, and a tombstone left
  absent     neither is there
  replay     the same invalidation once more: the tombstone says that it was done
  another    one more transaction of a key that has a tombstone
  settle     the second delete of `fill: plain`
  kept       a filled marker proves that the value is fresh (`fill: checked`)
  UNLINK     the values alone, 512 keys of one command
  SET        a tombstone each, as commands

CPU is that of the redis-server process (INFO cpu), values have 100 bytes. Two texts of tokens: `one` transaction of all keys
and one `each`."""

import argparse
import os
import sys
import tempfile

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

from harness import servers  # noqa: E402
from wire import Wire, words  # noqa: E402

LUA = os.path.join(os.path.dirname(TESTS), "daemon", "sinks", "redis", "lua")
BATCH = 512
EPOCH = "7312345678901234567/1"
LIFETIME = "61000"


class Cost:
    def __init__(self, redis, lua, keys):
        self.client = redis.client()
        self.wire = Wire(redis.port)
        text = "".join(open(os.path.join(lua, name), encoding="ascii").read() for name in ("marker.lua", "invalidate.lua"))
        self.sha = self.client.script_load(text + "return invalidate(KEYS, ARGV)\n")
        self.keys = [f"product:{number}:page" for number in range(100_000_000, 100_000_000 + keys)]
        self.batches = [self.keys[begin:begin + BATCH] for begin in range(0, keys, BATCH)]

    def fill(self):
        value = b"v" * 100
        self.wire.send([words("MSET", *[part for key in batch for part in (key, value)]) for batch in self.batches])

    def markers(self, text):
        self.wire.send([words("MSET", *[part for key in batch for part in ("evictd:{%s}" % key, text)]) for batch in self.batches])

    def cpu(self):
        """Microseconds of the process, both kinds."""
        info = self.client.info("cpu")
        return 1e6 * (info["used_cpu_user"] + info["used_cpu_sys"])

    def measured(self, commands):
        before = self.cpu()
        self.wire.send(commands)
        return (self.cpu() - before) / len(self.keys)

    def calls(self, flags, tokens, each, settled=""):
        calls = []
        number = tokens
        for batch in self.batches:
            texts = [f"{number + i}{settled}" for i in range(len(batch))] if each else [f"{tokens}{settled}"]
            number += len(batch)
            calls.append(words("EVALSHA", self.sha, 2 * len(batch), *batch, *[f"evictd:{{{key}}}" for key in batch],
                               EPOCH, LIFETIME, flags, f"1700000000000 {tokens}:{tokens + 9}:", *texts))
        return calls

    def round(self, each):
        xid = 1_000_000
        cost = {}
        self.client.flushall()
        cost["absent"] = self.measured(self.calls("i", xid, each))
        self.client.flushall()
        self.fill()
        new = self.calls("i", xid, each)
        cost["new"] = self.measured(new)
        self.fill()
        cost["replay"] = self.measured(new)
        cost["settle"] = self.measured(self.calls("s", xid, each, "s"))
        self.fill()
        cost["another"] = self.measured(self.calls("i", xid + 10_000_000, each))
        self.fill()
        self.markers(f"f {xid + 90_000_000}:{xid + 90_000_000}: 1800000000000")
        cost["kept"] = self.measured(self.calls("if", xid, each))
        self.client.flushall()
        self.fill()
        cost["UNLINK"] = self.measured([words("UNLINK", *batch) for batch in self.batches])
        sets = [b"".join(words("SET", "evictd:{%s}" % key, f"t {EPOCH} {xid}", "PX", LIFETIME) for key in batch)
                for batch in self.batches]
        cost["SET"] = self.measured(sets)
        return cost


def run(redis, lua=LUA, keys=100_000, rounds=5):
    """{"one": {case: microseconds}, "each": {...}}: of each the least of all rounds, for whatever else the machine does adds."""
    cost = Cost(redis, lua, keys)
    result = {}
    for name, each in (("one", False), ("each", True)):
        seen = [cost.round(each) for _ in range(rounds)]
        result[name] = {case: min(one[case] for one in seen) for case in seen[0]}
    return result


def table(result):
    cases = list(next(iter(result.values())))
    lines = ["microseconds of Redis's CPU per key", "tokens  " + "".join(f"{case:>9}" for case in cases)]
    lines += [f"{name:<8}" + "".join(f"{costs[case]:9.2f}" for case in cases) for name, costs in result.items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=["scripts"], help="as run.sh was asked")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lua", default=LUA, help="folder of the scripts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evictd-cost") as folder:
        redis = servers.Redis(f"{folder}/redis").start()
        try:
            print(table(run(redis, options.lua, options.keys, options.rounds)))
        finally:
            redis.stop()


if __name__ == "__main__":
    main()
