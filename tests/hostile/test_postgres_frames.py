"""Somebody adds frames to the replication stream that the server did not send. None is acknowledged or waited for, and what
the server did send is done."""

import random
import struct

import scenarios
from harness import oracle
from harness.waiting import eventually
from hostile import attacks


def frame_of(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


def injected(choice, frame):
    """What may stand before `frame` in a stream that somebody adds to."""
    position = choice.choice([0, 1, 2**40, 2**63, 2**64 - 1])
    time = choice.choice([0, -1, 2**63 - 1])
    header = b"w" + struct.pack("!QQq", position, position, time)
    return choice.choice([
        bytes(frame),  # twice
        frame_of(b"d", b"k" + struct.pack("!QqB", position, time, choice.randrange(256))),
        frame_of(b"d", header + choice.randbytes(choice.randint(0, 60))),
        frame_of(b"d", header + choice.choice([b"B", b"C", b"I", b"U", b"D", b"R", b"T", b"M", b"Y", b"O", b"A", b"S"]) + choice.randbytes(choice.randint(0, 60))),
        frame_of(b"d", header + b"B" + struct.pack("!QqI", position, time, choice.choice([0, 3, 2**31, 2**32 - 1]))),
        frame_of(b"d", header + b"M\0" + struct.pack("!Q", position) + b"evictd\0" + struct.pack("!I", 4) + b"beat"),
        frame_of(b"d", b""), frame_of(b"d", b"x" * 100), frame_of(b"N", b"SNOTICE\0Mhello\0\0"), frame_of(b"S", b"a\0b\0"), frame_of(b"A", b"\0" * 6),
        frame_of(b"E", choice.choice([b"", b"SFATAL\0C57P01\0Mgoodbye\0\0", b"\0" * 50, b"M" + b"m" * 1_000])), frame_of(b"c", b""), frame_of(b"C", b"COPY 0\0"),
        frame_of(b"Z", b"I"), frame_of(choice.choice([b"\0", b"\xff", b"W", b"H"]), choice.randbytes(9)),
        b"d" + struct.pack("!I", choice.choice([0, 3, 2**31 - 1, 2**32 - 1])), choice.randbytes(choice.randint(1, 40))])


def test_frames_that_the_server_did_not_send_leave_no_stale_key(postgres, redis, cache, middle, evictd, seed):
    choice = random.Random(seed)
    running = scenarios.under_load(postgres, redis, seed)
    for _ in range(attacks.count(12)):
        armed = [choice.randint(1, 40)]

        def tamper(frame, armed=armed):
            armed[0] -= 1
            return injected(choice, frame) + bytes(frame) if armed[0] == 0 else frame

        middle.tamper = tamper
        eventually("a frame was added", lambda armed=armed: armed[0] <= 0, 60)
        target = running.writes + 5
        eventually("the writers write on", lambda target=target: running.writes >= target, 60)
        assert evictd.is_running()
        assert oracle.is_within_the_servers_end(postgres)
    middle.tamper = bytes
    oracle.converge(postgres, evictd, running)
    oracle.assert_true_cache(postgres, cache, at_least=20)
    assert oracle.is_within_the_servers_end(postgres)
