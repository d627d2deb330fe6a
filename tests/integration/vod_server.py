"""A local HTTP server in the place of VOD, whose answers the test sets, and the real client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from worker.settings import Source
from worker.vod.client import Client

#: An answer without assets to any operation.
EMPTY = b'{"RequestId": "R", "MediaInfos": [], "Video": {}, "MediaList": [], "MessageCallback": {}}'


class Server(ThreadingHTTPServer):
    """Answers with `status`, `body` and `headers`. Records queries, request headers and the number of connections."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.headers = 200, EMPTY, dict[str, str]()
        self.date: str | None = None
        self.queries: list[dict[str, list[str]]] = []
        self.request_headers: list[dict[str, str]] = []
        self.connections = 0
        self.before: Callable[[Handler], bool] = lambda _handler: True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        server = self.server
        server.queries.append(parse_qs(urlsplit(self.path).query))
        server.request_headers.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if not server.before(self):
            self.close_connection = True
            return
        self.send_response(server.status)
        for name, value in {"Content-Length": str(len(server.body)), **server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(server.body)

    do_GET = do_POST

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.server.date or super().date_time_string(timestamp)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def client_of(server: Server, *, app_id: str | None = None) -> Client:
    """Return the client of a source whose VOD is `server`."""
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    return Client(Source(endpoint=endpoint, access_key_id="demoKeyId", access_key_secret=SecretStr("demoSecret"), app_id=app_id))
