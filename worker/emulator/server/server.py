"""Run the emulator as an HTTP server, in the foreground or in a thread."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import uvicorn
import uvloop
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from worker.emulator.api.broken_connections import BreakableProtocol
from worker.emulator.server.app import make_app
from worker.emulator.server.config import EmulatorConfig

_LISTEN_BACKLOG = 2048  # connections
_KEEP_ALIVE = 75  # seconds


def serve(config: EmulatorConfig, *, on_listening: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then return at once.

    `on_listening` is called with the URL when the server answers calls. Raises OSError if the address cannot be used.
    """
    listener = _listen(config)
    server = _Server(config, lambda: on_listening(_url(listener)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, server.stop)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextmanager
def running(config: EmulatorConfig) -> Iterator[str]:
    """Run an emulator in a thread until the block ends, and yield its URL.

    Raises OSError if the address cannot be used, RuntimeError if the server fails to start.
    """
    listener = _listen(config)
    ready = threading.Event()
    server = _Server(config, ready.set)

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))
        ready.set()

    thread = threading.Thread(target=main, name="emulator", daemon=True)
    thread.start()
    ready.wait()
    if not server.started:
        raise RuntimeError("the emulator did not start; read its log for the reason")
    try:
        yield _url(listener)
    finally:
        server.stop()
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn with a callback when it is ready, without its own signal handlers, and with a stop that aborts running requests."""

    def __init__(self, config: EmulatorConfig, on_ready: Callable[[], None]) -> None:
        app = make_app(config)

        async def without_disconnect_errors(scope: Scope, receive: Receive, send: Send) -> None:
            # A stop cancels the running requests, and a client may be killed. Neither is an error to log.
            with suppress(asyncio.CancelledError, ClientDisconnect):
                await app(scope, receive, send)

        super().__init__(
            uvicorn.Config(
                without_disconnect_errors,
                loop="uvloop",
                http=BreakableProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._on_ready = on_ready

    def stop(self) -> None:
        """Let `serve` return soon."""
        self.should_exit = True

    # uvicorn declares the narrower type that the decorator contextmanager returns.
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)


def _listen(config: EmulatorConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        # Listen before the server starts: an early client waits for it and does not fail.
        listener.listen(_LISTEN_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
