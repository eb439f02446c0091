"""Commands written many at once, and their replies read: the client must cost less than what it measures."""

import re
import socket

# A reply that is an error, at the beginning or behind another one. Values that the benchmarks store have no such bytes.
ERROR = re.compile(rb"(?:^|\r\n)-([^\r]*)")


def words(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Wire:
    """One connection. A command that Redis refuses would cost nearly nothing, and pass for a fast one: it ends the run."""

    END = b"$7\r\nthe end\r\n"

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))

    def send(self, commands, window=8):
        """Returns how many replies were the integer 1."""
        ones = 0
        for begin in range(0, len(commands), window):
            self.socket.sendall(b"".join(commands[begin:begin + window]) + words("PING", "the end"))
            seen = bytearray()
            while not seen.endswith(self.END):
                seen += self.socket.recv(1 << 20)
            refused = ERROR.search(seen)
            assert refused is None, f"Redis refused a command: {refused.group(1).decode()}"
            ones += seen.count(b":1\r\n")
        return ones
