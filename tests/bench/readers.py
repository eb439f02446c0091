"""What evictd's functions cost beside the plain commands they stand for: one Redis, pipelined alike, in turn."""

import re
import statistics
import subprocess

KEYS = 100_000
VALUE = "x" * 200
SNAPSHOT = "1040:1044:1041"

# redis-benchmark puts a number of its own into each __rand_int__: key and marker are seldom of one name, and cost
# what they would.
KEY, MARKER = "item:__rand_int__", "evictd:{item:__rand_int__}"
FILL = ["FCALL", "evictd_fill", "2", KEY, MARKER, SNAPSHOT, "600000", VALUE]

# Everything is there, every marker as named.
PREPARE = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local number = string.format('%012d', i)
  redis.call('SET', 'item:' .. number, ARGV[3], 'PX', 600000)
  if ARGV[4] == '' then redis.call('DEL', 'evictd:{item:' .. number .. '}')
  else redis.call('SET', 'evictd:{item:' .. number .. '}', ARGV[4], 'PX', 600000) end
end
"""
FILLED, TOMBSTONE = f"f {SNAPSHOT} 1700000000000", "t 7312345678901234567/1 1039"

# name, what it is compared with, the command, what the markers are before
CASES = [
    ("SET PX", None, ["SET", KEY, VALUE, "PX", "600000"], FILLED),
    ("evictd_fill over a tombstone", "SET PX", FILL, TOMBSTONE),
    ("evictd_fill over a fill", "SET PX", FILL, FILLED),
    ("evictd_fill, no marker", "SET PX", FILL, ""),
    ("GET", None, ["GET", KEY], FILLED),
    ("evictd_get, fresh", "GET", ["FCALL", "evictd_get", "2", KEY, MARKER], FILLED),
    ("evictd_get LEASE, fresh", "GET", ["FCALL", "evictd_get", "2", KEY, MARKER, "LEASE", "2000"], FILLED),
]


def prepare(redis, markers):
    client = redis.client()
    for first in range(0, KEYS, 10_000):
        client.eval(PREPARE, 0, first, first + 9_999, VALUE, markers)


def per_second(redis, command, requests):
    done = subprocess.run(
        ["redis-benchmark", "-p", str(redis.port), "-n", str(requests), "-P", "16", "-c", "8", "-r", str(KEYS), "-q", *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    found = re.findall(r"([\d.]+) requests per second", done.stdout)
    assert found, f"redis-benchmark says: {done.stdout} {done.stderr}"
    return float(found[-1])


def measure(redis, library, requests, rounds):
    redis.client().execute_command("FUNCTION", "LOAD", "REPLACE", library)
    rates = {name: [] for name, *_ in CASES}
    for _ in range(rounds):
        for name, _, command, markers in CASES:
            prepare(redis, markers)
            # Few enough that most of them meet a tombstone, where there are any.
            some = min(requests, KEYS // 2) if markers == TOMBSTONE else requests
            rates[name].append(per_second(redis, command, some))
    redis.client().flushall()
    medians = {name: statistics.median(some) for name, some in rates.items()}
    return {name: {"per_second": medians[name], "ratio": medians[name] / medians[base] if base else 1.0, "of": base}
            for name, base, *_ in CASES}


def table(result):
    lines = ["readers: calls per second of one Redis, and the share of the plain command's"]
    lines += [f"  {name:32} {one['per_second']:>10,.0f} {one['ratio']:>6.2f}" for name, one in result.items()]
    return lines
