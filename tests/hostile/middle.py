"""A man in the middle of PostgreSQL connections who knows their frames: whatever he does to a frame of a replication
stream, the frames around it stay whole. Plain connections only (sslmode=disable)."""

import socket
import struct
import threading


class Middle:
    """`tamper(frame)` gets each CopyData frame of a replication stream (type, length and body, as a bytearray) and
    returns what goes on to the client. While `pass_on` is not set, nothing goes on in either direction on connections
    whose application_name is `freeze`. `lie(data)` gets whatever else the server sends, in the pieces it comes in: to
    ordinary connections, and to replication connections before their stream."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.tamper = bytes
        self.lie = bytes
        self.pass_on = threading.Event()
        self.pass_on.set()
        self.freeze = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self.pass_on.set()
        self._listener.close()
        for one in self._sockets:
            one.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
            self._sockets += [client, server]
            startup = _exactly(client, 4)
            startup += _exactly(client, struct.unpack("!I", startup)[0] - 4)
            server.sendall(startup)
            words = startup[8:].split(b"\0")
            options = dict(zip(words[::2], words[1::2]))
            name = options.get(b"application_name", b"").decode()
            threading.Thread(target=self._pump, args=(client, server, name), daemon=True).start()
            if b"replication" in options:
                self._frames(server, client, name)
            else:
                self._pump(server, client, name, lambda data: self.lie(data))
        except OSError:
            client.close()

    def _pump(self, source, sink, name, change=bytes):
        try:
            while data := source.recv(65536):
                if name == self.freeze:
                    self.pass_on.wait()
                sink.sendall(change(data))
        except OSError:
            pass
        _close(source, sink)

    def _frames(self, server, client, name):
        try:
            while True:
                head = _exactly(server, 5)
                frame = bytearray(head + _exactly(server, struct.unpack("!I", head[1:])[0] - 4))
                if name == self.freeze:
                    self.pass_on.wait()
                client.sendall(self.tamper(frame) if head[:1] == b"d" else self.lie(frame))
        except OSError:
            _close(server, client)


def _exactly(source, count):
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def _close(*sockets):
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
