"""A PostgreSQL that says anything: while connecting, and to every question on an ordinary connection. It may say what is
not so, and be believed; it cannot end evictd, fill its memory or keep it from working once it says the truth."""

import random

import scenarios
from harness import oracle
from harness.daemon import sanitizer
from harness.waiting import eventually
from hostile import attacks


def lie(choice, data):
    data = bytearray(data)
    at = choice.randrange(len(data))
    kind = choice.randrange(7)
    if kind == 0:
        data[at] ^= 1 << choice.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = choice.randbytes(choice.randint(1, 60))
    elif kind == 3:
        data[at:at + 4] = choice.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\3"])
    elif kind == 4:
        data = bytearray(bytes(data) * 2)
    elif kind == 5:
        data = bytearray(b"E" + (4 + 30).to_bytes(4, "big") + b"SFATAL\0C" + choice.choice([b"28P01", b"57P01", b"XX000", b"42501", b"\xff\xff\xff\xff\xff"])
                         + b"\0Mno \xff\x1b[31m\0\0")
    else:
        data = bytearray(choice.randbytes(choice.randint(1, 2_000)))
    return bytes(data)


def test_whatever_the_server_says_evictd_goes_on_when_it_says_the_truth(postgres, cache, make_evictd, middle, seed):
    choice = random.Random(seed)
    evictd = make_evictd(postgres_url=f"{postgres.url(port=middle.port)}?sslmode=disable").start()
    idle = evictd.memory_bytes()
    # libpq asks for what a length announces, up to 2 GiB, and touches none of it. The address sanitizer notes an eighth of that down.
    notes = (2 << 30) // 8 if sanitizer(evictd.program) == "address" else 0
    rounds = attacks.count(8)
    for made in range(1, rounds + 1):
        armed = [choice.randint(1, 12)]

        def change(data, armed=armed):
            armed[0] -= 1
            return lie(choice, data) if armed[0] == 0 else bytes(data)

        middle.lie = change
        if choice.random() < 0.3:  # so that it connects anew, and is lied to while it does
            postgres.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null")
        eventually("there was a lie", lambda armed=armed: armed[0] <= 0 or postgres.execute(
            "update products set price_cents = price_cents + 1 where id = 9"), 60)
        assert evictd.is_running(), evictd.log_tail()
        if made % 8 == 0 or made == rounds:
            middle.lie = bytes
            evictd.wait_until_ready(60)
            scenarios.cached(cache, postgres, "product:1")
            postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
            scenarios.gone(cache, "product:1", seconds=30)
            assert evictd.memory_bytes("VmHWM") - idle < (64 << 20) + notes
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache, at_least=0)
    print(f"{rounds} attacks")
