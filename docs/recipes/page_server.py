# Pages of products over HTTP, behind a CDN or Varnish that evictd purges: redis-py, psycopg 3, and the standard library.
#   serve(redis.Redis(socket_timeout=1), lambda: psycopg.connect(..., autocommit=True), 8080)
# The rule: {table: public.products, keys: ["product:{id}"], fill: checked, surrogate_keys: ["product-{id}"]}
import datetime
import email.utils
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

RELEASE = "1"  # of the code that makes a page of a row: another release makes another page
FRESH = "public, max-age=0, s-maxage=3600, stale-while-revalidate=30"  # browsers ask each time: nothing purges them
QUERY = "select row_to_json(p)::text, pg_current_snapshot()::text from products p where id = %s"


def etag_of(version):
    """A strong ETag; none of a version that two values may share."""
    return f'"{RELEASE}-{version}"' if re.fullmatch(r"v[!#-~]+|\d+:\d+:[\d,]*", version or "") else None


def modified_of(version):
    """Where row versions are times."""
    if not re.match(r"v\d{4}-\d\d-\d\dT", version or ""):
        return None
    time_of_row = datetime.datetime.fromisoformat(version[1:].replace("Z", "+00:00"))
    return email.utils.format_datetime(time_of_row.astimezone(datetime.timezone.utc), usegmt=True)


def find(cache, database, query, number, known):
    """(state, row, version). same: as the page of a version in `known`; unsure: may be shown, and not kept."""
    names = [f"product:{number}", "evictd:{product:%d}" % number]
    unless = ("UNLESS", known[0]) if known else ()
    lease = None
    try:
        for _ in range(100):
            state, row, lease, version = cache.fcall("evictd_get", 2, *names, "LEASE", 2000, *unless)
            if state in (b"fresh", b"same"):
                return state.decode(), row, version and version.decode()
            if state == b"stale" and not lease:
                return "unsure", row, None  # out of date, while another request refreshes it
            if state != b"busy":
                break
            time.sleep(0.01)  # another request loads it: a second at most, then without the cache
    except redis.RedisError:
        lease = None  # without Redis, the database answers
    began = time.monotonic()
    row, token = database().execute(query, (number,)).fetchone() or (None, None)
    row = row and row.encode()
    if row and lease:
        try:
            age_ms = int((time.monotonic() - began) * 1000)
            if cache.fcall("evictd_fill", 2, *names, token, 600_000, row, "AGE", age_ms):
                return "fresh", row, token.replace("v:", "v")
        except redis.RedisError:
            pass
    return "unsure", row, None


def serve(cache, connect, port, query=QUERY):
    threads = threading.local()

    def database():
        if not hasattr(threads, "connection") or threads.connection.closed:
            threads.connection = connect()
        return threads.connection

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together: the second of two small packets would wait for the first one's receipt

        def do_GET(self):
            path = re.fullmatch(r"/products/(\d{1,9})", self.path)
            wanted = self.headers["If-None-Match"] or ""
            known = re.findall(rf'"{RELEASE}-([^"]*)"', wanted)
            state, row, version = find(cache, database, query, int(path[1]), known) if path else ("unsure", None, None)
            etag = etag_of(version)
            is_known = state == "same" or (row is not None and (etag and version in known or wanted.strip() == "*"))
            # A 304 has what the 200 would have had, but for the body: whoever keeps the page goes on with it.
            headers = {"Cache-Control": "no-store" if state == "unsure" else FRESH, "ETag": etag,
                       "Last-Modified": modified_of(version), "Surrogate-Key": path and f"product-{int(path[1])}"}
            body = b"" if is_known else row or b"not found\n"
            if not is_known:
                headers |= {"Content-Type": "application/json" if row else "text/plain", "Content-Length": str(len(body))}
            self.send_response(304 if is_known else 200 if row else 404)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Pages).serve_forever()
