"""What evictd's functions cost Redis, its own CPU for a call, beside the plain commands they stand for and beside the least
that a function doing the same reads and writes could cost. Keys in random order, each with the marker that is its own."""

import random
import statistics

from wire import Wire, words

KEYS = 100_000
VALUE = b"x" * 200
SNAPSHOT = "1040:1044:1041"
FILLED, TOMBSTONE = f"f {SNAPSHOT} 1700000000000", "t 7312345678901234567/1 1039"
WINDOW = 128

# A function that reads what evictd_get reads, and one that reads and writes what evictd_fill does.
LEAST = """#!lua name=bench_least
redis.register_function('bench_mget', function(keys) return redis.call('MGET', keys[1], keys[2]) end)
redis.register_function('bench_sets', function(keys, args)
  redis.call('GET', keys[2])
  redis.call('SET', keys[2], args[2], 'PX', args[1])
  redis.call('SET', keys[1], args[3], 'PX', args[1])
  return 1
end)
-- The same calls as evictd's functions make, and nothing else: what is above these is Lua's.
redis.register_function('bench_get', function(keys)
  local value = redis.call('GET', keys[1])
  redis.call('GETRANGE', keys[2], '0', '8192')
  return {'fresh', value, false, false}
end)
redis.register_function('bench_fill', function(keys, args)
  local there = redis.call('GETRANGE', keys[2], '0', '8192')
  redis.call('GETRANGE', 'evictd:purged', '0', '8192')
  redis.call('TIME')
  if there ~= '' then redis.call('PTTL', keys[2]) end
  redis.call('SET', keys[1], args[3], 'PX', args[1])
  redis.call('SET', keys[2], args[2], 'PX', args[1])
  return 1
end)
"""


def names(number):
    key = f"item:{number:012}"
    return key, f"evictd:{{{key}}}"


def fill(number):
    return words("FCALL", "evictd_fill", 2, *names(number), SNAPSHOT, 600000, VALUE)


def get(*more):
    return lambda number: words("FCALL", "evictd_get", 2, *names(number), *more)


# name, what it is compared with, the command, what the markers are before, whether each answers 1
CASES = [
    ("SET PX", None, lambda n: words("SET", names(n)[0], VALUE, "PX", 600000), FILLED, False),
    ("a function of GET and two SETs", None, lambda n: words("FCALL", "bench_sets", 2, *names(n), 600000, FILLED, VALUE), FILLED, True),
    ("the same calls as evictd_fill over a fill", "a function of GET and two SETs",
     lambda n: words("FCALL", "bench_fill", 2, *names(n), 600000, FILLED, VALUE), FILLED, True),
    ("the same calls as evictd_fill, no marker", "a function of GET and two SETs",
     lambda n: words("FCALL", "bench_fill", 2, *names(n), 600000, FILLED, VALUE), "", True),
    ("evictd_fill over a tombstone", "a function of GET and two SETs", fill, TOMBSTONE, True),
    ("evictd_fill over a fill", "a function of GET and two SETs", fill, FILLED, True),
    ("evictd_fill, no marker", "a function of GET and two SETs", fill, "", True),
    ("GET", None, lambda n: words("GET", names(n)[0]), FILLED, False),
    ("a function of one MGET", None, lambda n: words("FCALL", "bench_mget", 2, *names(n)), FILLED, False),
    ("the same calls as evictd_get", "a function of one MGET", lambda n: words("FCALL", "bench_get", 2, *names(n)), FILLED, False),
    ("evictd_get, fresh", "a function of one MGET", get(), FILLED, False),
    ("evictd_get LEASE, fresh", "a function of one MGET", get("LEASE", 2000), FILLED, False),
]


def prepare(wire, client, markers):
    client.flushall()
    for first in range(0, KEYS, 1000):
        these = [names(number) for number in range(first, first + 1000)]
        commands = [words("SET", key, VALUE, "PX", 600000) for key, _ in these]
        if markers:
            commands += [words("SET", marker, markers, "PX", 600000) for _, marker in these]
        wire.send(commands, len(commands))


def measure(redis, library, requests, rounds):
    client, wire = redis.client(), Wire(redis.port)
    for text in (library, LEAST):
        client.execute_command("FUNCTION", "LOAD", "REPLACE", text)
    order = random.Random(1).sample(range(KEYS), min(requests, KEYS))
    spent = {name: [] for name, *_ in CASES}
    for _ in range(rounds):
        for name, _, command, markers, answers_one in CASES:
            prepare(wire, client, markers)
            commands = [command(number) for number in order]
            before = redis.cpu_seconds()
            ones = wire.send(commands, WINDOW)
            spent[name].append((redis.cpu_seconds() - before) / len(order) * 1e6)
            assert not answers_one or ones == len(order), f"{name}: {len(order) - ones} of {len(order)} did nothing"
    client.flushall()
    medians = {name: statistics.median(some) for name, some in spent.items()}
    return {name: {"redis_us_per_call": medians[name], "share": medians[base] / medians[name] if base else None, "of": base}
            for name, base, *_ in CASES}


def table(result):
    lines = ["readers: microseconds of Redis's CPU for a call, and what share of that the least that a function can do would take"]
    lines += [f"  {name:42} {one['redis_us_per_call']:>6.2f}" + (f"   {one['share']:.2f} of {one['of']}" if one["of"] else "")
              for name, one in result.items()]
    return lines
