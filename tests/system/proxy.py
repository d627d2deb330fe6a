"""A TCP connection that can be cut or frozen: stands between a process and its server, and lets through again."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Forwards 127.0.0.1:`port` to `target` (host, port); port 0 takes a free one."""

    def __init__(self, target: tuple[str, int], *, port: int = 0) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self._answering = threading.Event()
        self._answering.set()
        self.port = port
        self.restore()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._open = self._open, set()
        if listener is not None:
            # shutdown() wakes the thread in accept(); close() alone would leave it, and the port, as they are.
            _shut(listener)
        for connection in connections:
            _shut(connection)

    close = cut

    def freeze(self) -> None:
        """Accept connections and data, and say nothing, until `restore`."""
        self._flowing.clear()

    def mute(self) -> None:
        """Hold back what the server says, while it still hears everything; `cut` after it leaves the client guessing."""
        self._answering.clear()

    def restore(self) -> None:
        """Let through again, at the same port as before."""
        self._flowing.set()
        self._answering.set()
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
            for source, sink, allowed in ((client, server, (self._flowing,)), (server, client, (self._flowing, self._answering))):
                threading.Thread(target=self._pump, args=(source, sink, allowed), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, allowed: tuple[threading.Event, ...]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                for gate in allowed:
                    gate.wait()
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _shut(source)
        _shut(sink)


def proxied(url: str) -> tuple[Proxy, str]:
    """A proxy before the server of `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "", parts.port or 0))
    return proxy, url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{proxy.port}")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
