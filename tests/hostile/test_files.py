"""What stands where a file should: a library that opens it by its name would wait there, and with it the loop."""

import os
import socket
import threading

import pytest
from harness.waiting import eventually

WHY = "expected a file, got a pipe, device or socket"


@pytest.fixture
def silent_tls_port():
    """A PostgreSQL that agrees to TLS, and says nothing more. A Redis does not even agree."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        while True:
            try:
                client, _ = listener.accept()
                held.append(client)
                client.settimeout(5)
                if client.recv(8)[4:] == b"\x04\xd2\x16\x2f":
                    client.sendall(b"S")
            except OSError:
                if listener.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()
    for client in held:
        client.close()


@pytest.fixture
def pipe(folder):
    os.mkfifo(f"{folder}/pipe")
    return f"{folder}/pipe"


@pytest.mark.parametrize("files", ["ca: {pipe}", "cert: {pipe}, key: {pipe}"])
def test_a_pipe_as_tls_file_of_redis_keeps_nobody_waiting(make_evictd, silent_tls_port, pipe, files):
    evictd = make_evictd(redis_url=f"rediss://127.0.0.1:{silent_tls_port}/0", redis_more=f"tls: {{{files.format(pipe=pipe)}}}").start(ready=False)
    eventually("it says which file", lambda: f"cannot read the TLS file '{pipe}': {WHY}" in evictd.http("/readyz")[1])
    assert evictd.stop() == 0
    assert WHY in evictd.command("check").stdout


@pytest.mark.parametrize("keyword", ["sslrootcert", "sslcrl", "sslcert"])
def test_a_pipe_as_tls_file_of_postgresql_keeps_nobody_waiting(make_evictd, silent_tls_port, pipe, keyword):
    mode = "require" if keyword == "sslcert" else "verify-full"
    url = f"postgresql://evictd@127.0.0.1:{silent_tls_port}/shop?sslmode={mode}&{keyword}={pipe}"
    if keyword == "sslcrl":
        url += "&sslrootcert=/etc/ssl/certs/ca-certificates.crt"
    evictd = make_evictd(postgres_url=url).start(ready=False)
    eventually("it says which file", lambda: f"{keyword} '{pipe}': {WHY}" in evictd.log_text())
    assert evictd.stop() == 0
    assert WHY in evictd.command("check").stdout
