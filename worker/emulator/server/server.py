"""The emulator as a running server, in this process or in a thread of it."""

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

from worker.emulator.server.app import make_app
from worker.emulator.server.broken_connections import BreakableProtocol
from worker.emulator.server.config import EmulatorConfig


def serve(config: EmulatorConfig, *, on_listening: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGTERM or SIGINT, then return at once. `on_listening` gets the URL as soon as calls are answered.

    Raises OSError where the address cannot be had.
    """
    listener = _listen(config)
    server = _Server(config, lambda: on_listening(_url(listener)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextmanager
def running(config: EmulatorConfig) -> Iterator[str]:
    """The URL of an emulator that runs in a thread for as long as the block does."""
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
        raise RuntimeError("the emulator did not start; its log says why")
    try:
        yield _url(listener)
    finally:
        server.stop()
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, leaves signals to us, and drops what is under way when it stops."""

    def __init__(self, config: EmulatorConfig, on_ready: Callable[[], None]) -> None:
        app = make_app(config)

        async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
            # A stop cancels the calls under way, and who calls may be killed; that is no error to report.
            with suppress(asyncio.CancelledError, ClientDisconnect):
                await app(scope, receive, send)

        super().__init__(
            uvicorn.Config(
                quiet,
                loop="uvloop",
                http=BreakableProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
            )
        )
        self._on_ready = on_ready

    def stop(self) -> None:
        self.should_exit = True

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
        # Listening from now on, so that a client that comes before the server is ready waits in place of failing.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
