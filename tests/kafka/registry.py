"""A schema registry in this process, as strict as the real ones: the Confluent-compatible interface that evictd asks, and the part
of Apicurio's own that its converters register schemas with. And a mean one: see `mood`.

The registries themselves cannot be had from public repositories as something that runs."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMPATIBLE = "/apis/ccompat/v7"


class Registry:
    """`user`: asked for, with `password`. Counts what was asked in `asked`; `mood` is None, or one of
    hang, status, huge, html, other."""

    def __init__(self, port=0, user=None, password=None):
        self.user, self.password = user, password
        self.schemas = {}  # id -> (text, kind)
        self.mood = None
        self.asked = []
        self.lock = threading.Lock()
        self.port = port
        self.server = None
        self.released = threading.Event()
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{COMPATIBLE}"

    @property
    def apicurio_url(self):
        return f"http://127.0.0.1:{self.port}/apis/registry/v2"

    def add(self, schema, identity=None, kind="AVRO"):
        """-> the id"""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        with self.lock:
            for known, (other, of_kind) in self.schemas.items():
                if (other, of_kind) == (text, kind) and identity is None:
                    return known
            identity = identity if identity is not None else max(self.schemas, default=0) + 1
            self.schemas[identity] = (text, kind)
            return identity

    def start(self):
        """Again, on the same port, with the schemas it had."""
        self.released.clear()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def _handler_of(registry):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass

        def answer(self, status, body):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def is_allowed(self):
            if registry.user is None:
                return True
            wanted = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
            return self.headers.get("Authorization") == f"Basic {wanted}"

        def do_GET(self):  # pylint: disable=invalid-name
            registry.asked.append(self.path)
            if not self.is_allowed():
                return self.answer(401, {"error_code": 401, "message": "Unauthorized"})
            if self.path == f"{COMPATIBLE}/schemas/types":
                return self.answer(200, ["JSON", "PROTOBUF", "AVRO"])
            found = re.fullmatch(f"{COMPATIBLE}/schemas/ids/([1-9][0-9]*)", self.path)
            if found is None:
                return self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})
            if registry.mood is not None:
                return self.be_mean(registry.mood)
            known = registry.schemas.get(int(found[1]))
            if known is None:
                return self.answer(404, {"error_code": 40403, "message": "Schema not found"})
            return self.answer(200, {"schema": known[0], **({} if known[1] == "AVRO" else {"schemaType": known[1]})})

        def be_mean(self, mood):
            if mood == "hang":
                registry.released.wait(60)
                self.close_connection = True
                return
            if mood == "status":
                self.answer(500, {"error_code": 50001, "message": "no storage"})
            elif mood == "html":
                self.answer(200, b"<html>sign in</html>")
            elif mood == "other":
                self.answer(200, {"schema": "{\"type\": \"no such\"}"})
            elif mood == "huge":  # 2 GB, as far as anybody takes them; the length is not told beforehand
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                chunk = b"%x\r\n" % (1 << 20) + b"{" * (1 << 20) + b"\r\n"
                try:
                    for _ in range(2048):
                        self.wfile.write(chunk)
                except OSError:
                    pass
                self.close_connection = True

        def do_POST(self):  # pylint: disable=invalid-name
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if "Content-Length" in self.headers else self.read_chunks()
            registry.asked.append("POST " + self.path)
            found = re.fullmatch(r"/apis/registry/v2/groups/([^/]+)/artifacts(\?.*)?", self.path)
            if found is None or self.headers.get("X-Registry-ArtifactType") not in ("AVRO", "JSON"):
                return self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})
            text = body.decode()
            references = []
            if "create.extended" in self.headers.get("Content-Type", ""):
                extended = json.loads(text)
                text, references = extended["content"], extended.get("references") or []
            kind = self.headers["X-Registry-ArtifactType"]
            identity = registry.add(text, kind=kind)
            now = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime())
            return self.answer(200, {
                "id": self.headers.get("X-Registry-ArtifactId"), "groupId": found[1], "version": "1", "type": kind, "state": "ENABLED",
                "createdOn": now, "modifiedOn": now, "createdBy": "", "modifiedBy": "", "globalId": identity + 1000, "contentId": identity,
                "references": references})

        def read_chunks(self):
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data

    return Handler


def frame(identity, data, width=4):
    """In front of Avro or JSON."""
    return b"\0" + identity.to_bytes(width, "big") + data
