"""Clients that send too much, too slowly or nothing, while VOD delivers notifications to the same receiver."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.callbacks import new_notification
from tests.system.installation import Installation, Pair, installed, signed
from tests.system.processes import VODSYNC, eventually

#: File descriptors of the receiver. The clients of each kind alone would use up most of them.
DESCRIPTORS = 360
CROWD = 300  # connections

#: VOD waits no longer for a response (vod-protocol 1.2).
PATIENCE = 5  # seconds

MAX_GROWTH = 30 * 1024  # KiB

HEAD = b"POST /callbacks HTTP/1.1\r\nHost: a\r\n"


class HostileClients:
    """Threads that open connections until `stop`. `closed` counts by kind how many of them the receiver has closed."""

    def __init__(self, port: int) -> None:
        self.closed: Counter[str] = Counter()
        self._port = port
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, behave: Callable[[], None]) -> None:
        thread = threading.Thread(target=behave, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def endless(self, kind: str, head: bytes, more: bytes) -> Callable[[], None]:
        """Return a client that sends `more` for ever, on one connection after another."""

        def behave() -> None:
            while not self._stopping.wait(0.05):
                with suppress(OSError), self._connect() as connection:
                    connection.sendall(head)
                    while not self._stopping.is_set():
                        connection.sendall(more)
                self.closed[kind] += 1

        return behave

    def crowd(self, kind: str, head: bytes, more: bytes, size: int) -> Callable[[], None]:
        """Return `size` clients that send `head`, and then only `more` from time to time."""

        def behave() -> None:
            connections: list[socket.socket] = []
            while not self._stopping.wait(0.1):
                for connection in select.select(connections, [], [], 0)[0]:
                    connection.close()
                    connections.remove(connection)
                    self.closed[kind] += 1
                with suppress(OSError):
                    while len(connections) < size and not self._stopping.is_set():
                        connections.append(self._connect())
                        connections[-1].sendall(head)
                for connection in connections:
                    with suppress(OSError):
                        connection.sendall(more)
            for connection in connections:
                connection.close()

        return behave

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(Pair(None, None), tmp_path_factory.mktemp("hostile")) as running:
        limited = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh", *VODSYNC)
        running.start("receiver", "serve", command=limited, PYTHONPATH=str(Path(__file__).parents[2]))
        running.wait_until_ready()
        yield running


@pytest.fixture
def hostile(receiver: Installation) -> Iterator[HostileClients]:
    clients = HostileClients(receiver.port)
    yield clients
    clients.stop()


def deliver(receiver: Installation, connection: http.client.HTTPConnection) -> int:
    """Send one signed notification as VOD does. Return the status of the answer."""
    content = json.dumps(new_notification()).encode()
    connection.request("POST", "/callbacks", content, signed(content, url=receiver.callback_url))
    response = connection.getresponse()
    response.read()
    return response.status


def peak_memory(pid: int) -> int:
    """Return the most memory that a process had so far, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("kind", ["endless", "waiting"])
def test_signed_deliveries_are_answered_while_other_clients_misbehave(
    receiver: Installation, hostile: HostileClients, kind: str
) -> None:
    pid = receiver.processes["receiver"].pid
    kept = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=PATIENCE)
    statuses = [deliver(receiver, kept) for _ in range(50)]
    memory_before = peak_memory(pid)
    if kind == "endless":
        expected = {"header line", "header fields", "body", "trailer"}
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        hostile.start(hostile.endless("header line", HEAD + b"X-A: ", b"a" * 65_536))
        hostile.start(hostile.endless("header fields", HEAD, b"X-A: b\r\n" * 1000))
        hostile.start(hostile.endless("body", chunked, b"10000\r\n" + b"a" * 65_536 + b"\r\n"))
        hostile.start(hostile.endless("trailer", chunked + b"0\r\n", b"X-A: b\r\n" * 1000))
    else:
        expected = {"idle", "half-sent head", "slow head", "half-sent body"}
        hostile.start(hostile.crowd("idle", b"", b"", CROWD))
        hostile.start(hostile.crowd("half-sent head", HEAD, b"", CROWD))
        hostile.start(hostile.crowd("slow head", HEAD + b"X-A: ", b"a", 50))
        hostile.start(hostile.crowd("half-sent body", HEAD + b"Content-Length: 10\r\n\r\n", b"", 50))
    descriptors = 0

    def every_client_was_closed() -> bool:
        nonlocal descriptors
        new = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=PATIENCE)
        statuses.extend([deliver(receiver, kept), deliver(receiver, new)])
        new.close()
        descriptors = max(descriptors, len(os.listdir(f"/proc/{pid}/fd")))
        return len(statuses) > 200 and hostile.closed.keys() >= expected

    eventually(every_client_was_closed, within=10, pause=0.01, missing=lambda: f"closed connections: {hostile.closed}")
    kept.close()

    assert set(statuses) == {200}
    assert peak_memory(pid) - memory_before < MAX_GROWTH
    assert descriptors < DESCRIPTORS - 20


def test_a_head_that_stays_incomplete_is_answered_with_408(receiver: Installation) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as connection:
        connection.sendall(HEAD)

        response = connection.makefile("rb").read()

    assert response.split()[1] == b"408"
    assert json.loads(response.partition(b"\r\n\r\n")[2])["reason"] == "slow"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 65_536 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X-A: a\r\n" * 101 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X-A: a\r\n" * 100 + b"\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 60_000 + b"\r\n\r\n", 200),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 400),
        (b"GET http://example.org HTTP/1.1\r\n\r\n", 400),
        (b"no HTTP\r\n\r\n", 400),
    ],
    ids=["long header", "long path", "101 headers", "100 headers", "60 kB", "CONNECT", "no path", "no HTTP"],
)
def test_a_request_that_cannot_be_read_is_refused_with_json(receiver: Installation, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)

        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")

    assert head.split()[1] == str(status).encode()
    assert status == 200 or json.loads(body).keys() == {"error", "reason"}


def test_many_requests_at_once_close_the_connection(receiver: Installation) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /readyz HTTP/1.1\r\n\r\n" * 1000)

        responses = connection.makefile("rb").read()

        assert responses.count(b"HTTP/1.1 200") < 1000
