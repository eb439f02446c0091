"""A TCP proxy that can be told to misbehave, as a process of its own so that it does not share a busy
test's interpreter.

    proxy.py LISTEN_PORT TARGET_PORT       then one command a line on its standard input:
      pass            forward everything (at the start)
      hole            forward nothing, close nothing: what a lost route or a dropped NAT entry looks like
      cut             reset every connection now, then forward new ones
      refuse          reset every connection, now and later
      slice BYTES     forward in pieces of this size
      delay MS        forward each piece that much later
      cut_after BYTES reset the connection after so many more bytes from the target: amid a message
      target PORT     reset every connection now; new ones go there
"""

import asyncio
import os
import socket
import struct
import subprocess
import sys

from . import process
from .waiting import eventually


class Proxy:
    """The test's side: starts the process and talks to it."""

    def __init__(self, target_port):
        self.port = process.free_port()
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.proxy", str(self.port), str(target_port)], cwd=root,
            stdin=subprocess.PIPE, text=True, start_new_session=True)
        eventually("the proxy listens", self._listens, 60)

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def stop(self):
        self.process.stdin.close()  # ends it
        process.end(self.process)


class _Relay:
    def __init__(self, target_port):
        self.target_port = target_port
        self.open = asyncio.Event()
        self.open.set()
        self.refusing = False
        self.piece = 65536
        self.delay = 0.0
        self.cut_after = None
        self.writers = set()

    def obey(self, line):
        word, _, argument = line.strip().partition(" ")
        if word == "pass":
            self.refusing, self.piece, self.delay, self.cut_after = False, 65536, 0.0, None
            self.open.set()
        elif word == "hole":
            self.open.clear()
        elif word == "cut":
            self.reset_all()
        elif word == "refuse":
            self.refusing = True
            self.reset_all()
        elif word == "slice":
            self.piece = int(argument)
        elif word == "delay":
            self.delay = int(argument) / 1000
        elif word == "cut_after":
            self.cut_after = int(argument)
        elif word == "target":
            self.target_port = int(argument)
            self.reset_all()
        else:
            raise ValueError(f"unknown command {line!r}")

    def reset_all(self):
        for writer in list(self.writers):
            connection = writer.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.writers.clear()

    async def serve(self, reader, writer):
        if self.refusing:
            writer.transport.abort()
            return
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, target_writer}
        await asyncio.gather(self.pump(reader, target_writer, False), self.pump(target_reader, writer, True))

    async def pump(self, reader, writer, from_target):
        try:
            while True:
                data = await reader.read(65536)
                if not data:
                    break
                await self.open.wait()
                if from_target and self.cut_after is not None:
                    if len(data) >= self.cut_after:
                        writer.write(data[: self.cut_after])
                        await writer.drain()
                        self.cut_after = None
                        self.reset_all()
                        return
                    self.cut_after -= len(data)
                for at in range(0, len(data), self.piece):
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    writer.write(data[at : at + self.piece])
                    await writer.drain()
        except OSError:
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


async def _main(listen_port, target_port):
    relay = _Relay(target_port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", listen_port)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        relay.obey(line.decode())
    server.close()
    relay.reset_all()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
