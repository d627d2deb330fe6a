"""Forward TCP connections between a process and its server, with outages on request."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Forwards 127.0.0.1:`port` to `target` (host, port); port 0 means a free port."""

    def __init__(self, target: tuple[str, int], *, port: int = 0) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._forwarding = threading.Event()
        self._forwarding.set()
        self._responding = threading.Event()
        self._responding.set()
        self.port = port
        self.restore()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._open = self._open, set()
        if listener is not None:
            # shutdown() wakes the thread in accept(); close() alone would leave the thread and the port open.
            _shut(listener)
        for connection in connections:
            _shut(connection)

    close = cut

    def freeze(self) -> None:
        """Accept connections and data, but forward nothing until `restore`."""
        self._forwarding.clear()

    def block_responses(self) -> None:
        """Forward requests to the server, but not its responses. With `cut` afterwards the client cannot know the outcome."""
        self._responding.clear()

    def forget(self) -> None:
        """Stop to forward on the connections of now, and close none, as a firewall that lost its state. New ones work."""
        self._forwarding.clear()
        self._forwarding = threading.Event()
        self._forwarding.set()

    def restore(self) -> None:
        """Forward again, at the same port as before."""
        self._forwarding.set()
        self._responding.set()
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                if self._listener is not listener:
                    _shut(client)
                    _shut(server)
                    return
                self._open |= {client, server}
            for source, sink, allowed in (
                (client, server, (self._forwarding,)),
                (server, client, (self._forwarding, self._responding)),
            ):
                threading.Thread(target=self._pump, args=(source, sink, allowed), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, allowed: tuple[threading.Event, ...]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                for permission in allowed:
                    permission.wait()
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _shut(source)
        _shut(sink)


def proxied(url: str) -> tuple[Proxy, str]:
    """Start a proxy for the server of `url`. Returns it and the URL that connects through it."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "", parts.port or 0))
    return proxy, url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{proxy.port}")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
