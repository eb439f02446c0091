"""Whoever reaches the HTTP port is the attacker: whatever is sent there, others are answered, the loop turns, and deletes
go on."""

import contextlib
import random
import socket

import pytest
import scenarios
from harness import oracle
from harness.waiting import eventually
from hostile import attacks

PATHS = ["/", "/metrics", "/livez", "/readyz", "/status", "/events", "/readyz?standby=ok", "/../etc/passwd", "/%2e%2e/", "//", "/\x00", "*", "http://elsewhere/"]
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", "G" * 9000, ""]
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9" * 100, "", "\x16\x03\x01"]
HEADERS = ["Host: localhost", "Host: evil.example", "Content-Length: 18446744073709551616", "Content-Length: -1", "Transfer-Encoding: chunked",
           "Connection: keep-alive", "Connection: upgrade", "Expect: 100-continue", "X: " + "y" * 20_000, ": empty", "no colon",
           "Cookie: \x00", "Range: bytes=0-", "Last-Event-ID: 9" * 50]


@pytest.fixture
def evictd(make_evictd):
    return make_evictd().start()


def request(choice):
    if choice.random() < 0.3:
        return attacks.data(choice, 2_000)
    end = choice.choice(["\r\n", "\r\n", "\n", "\r"])
    lines = [" ".join([choice.choice(METHODS), choice.choice(PATHS), choice.choice(VERSIONS)])]
    lines += [choice.choice(HEADERS) for _ in range(choice.choice([0, 1, 2, 5, 200]))]
    whole = (end.join(lines) + choice.choice([2 * end, end, "", 2 * end + "GET /status HTTP/1.1" + 2 * end])).encode("utf-8", "replace")
    return whole[:choice.randint(1, len(whole))] if choice.random() < 0.3 else whole


def attack(choice, port, held):
    """One connection. Some are closed at once, some read a little, some hang on as long as `held` has room."""
    one = socket.create_connection(("127.0.0.1", port), timeout=5)
    with contextlib.suppress(OSError):
        one.sendall(request(choice))
        how = choice.random()
        if how < 0.4:
            one.settimeout(0.05)
            one.recv(choice.choice([1, 10_000]))
        elif how < 0.5:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        elif how < 0.8:
            held.append(one)
            if len(held) > 150:
                held.pop(choice.randrange(len(held))).close()
            return
    one.close()


def test_whatever_is_sent_others_are_answered(postgres, cache, evictd, seed):
    choice = random.Random(seed)
    held, rounds = [], attacks.count(600)
    idle = evictd.memory_bytes()
    for made in range(1, rounds + 1):
        attack(choice, evictd.port, held)
        if made % 100 == 0 or made == rounds:
            assert evictd.http("/livez") == (200, "ok\n")
            assert evictd.is_ready()
            scenarios.cached(cache, postgres, "product:1")
            postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
            scenarios.gone(cache, "product:1")
            assert evictd.memory_bytes() - idle < 64 << 20
    for one in held:
        one.close()
    oracle.converge(postgres, evictd)
    assert all(ord(letter) >= 32 or letter == "\n" for letter in evictd.log_text())
    print(f"{rounds} attacks")


def test_a_key_that_redis_refuses_is_told_to_the_log_alone(postgres, redis, cache, make_evictd):
    """Keys may spell what rows hold, and the port has no login."""
    admin = redis.client()
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~evictd:*", "&*", "+@all")
    evictd = make_evictd("- {table: categories, keys: ['name:{name}']}\n", redis_url=redis.url().replace("redis://", "redis://narrow:pw@"))
    try:
        evictd.start()
        postgres.execute("insert into categories values (4711, 'jane@example.com')")
        eventually("Redis refuses it", lambda: not evictd.is_ready() and "jane@example.com" in evictd.log_text())
        for path in ("/readyz", "/status", "/metrics", "/"):
            assert "jane" not in evictd.http(path)[1], path
        assert "NOPERM" in evictd.http("/readyz")[1].upper() or "permission" in evictd.http("/readyz")[1], evictd.http("/readyz")[1]
    finally:
        postgres.execute("delete from categories where id = 4711")
        evictd.stop()
        admin.execute_command("ACL", "DELUSER", "narrow")
