"""Texts that rows, readers and requests attack with, drawn from a generator; and how many attacks a run makes."""

import os

# Letters that steer something somewhere: globs, RESP, Lua patterns, hash tags, templates, URLs, terminals, JSON.
LETTERS = [*"*?[]\\{}:%$^|,'\"<>&#/@-+.= ", "\r", "\n", "\t", "\x01", "\x1b", "\x7f", "\u009b", "\u202e", "\u00e9", "\u0301",
           "\u20ac", "\ufeff", "\ufffd", "\U0001f600", *"abz019"]
WORDS = ["evictd:", "victd:record:evictd", "victd:purged", "victd:{row:bystander}", "evictd:{", "evictd:record:evictd", "evictd:purged", "tag:", "tag:victim", "session:1", "..", "null", "NaN", "*",
         "row:1", "{evictd}", "{}", "\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "[a-z]*", "\\*", "%00", "%2a", "redis.call('flushall')",
         "1042:1044:1043", "v:1", "lease:", "'; drop table row_texts; --"]


def count(short):
    """EVICTD_HOSTILE_ROUNDS, else `short`."""
    return int(os.environ.get("EVICTD_HOSTILE_ROUNDS", short))


def text(choice, length_max=60):
    """A hostile text without a zero character."""
    kind = choice.random()
    if kind < 0.02:
        return choice.choice(["a", "*", "\u20ac", "%"]) * choice.choice([1_000, 1_100, 16_000, 65_531, 65_532, 65_533, 70_000])
    if kind < 0.04:
        return ""
    parts = []
    while sum(map(len, parts)) < choice.randint(1, length_max):
        parts.append(choice.choice(WORDS) if choice.random() < 0.15 else choice.choice(LETTERS))
    return "".join(parts)


def data(choice, length_max=200):
    """Any bytes, mostly such that mean something."""
    if choice.random() < 0.3:
        return choice.randbytes(choice.randint(0, length_max))
    return text(choice, length_max).encode()[:65_536]
