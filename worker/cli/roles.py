"""Verbs that run: the receiver, the worker, or everything on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Annotated, Any

import typer

from worker import logs, runtime
from worker.cli.output import Exit, say
from worker.core.errors import ConfigurationError
from worker.store import schema

log = logs.get(__name__)

#: Seconds that requests, or a batch, get to finish after SIGTERM.
_GRACE = 30

#: Seconds before a role that died is started again.
_RESTART = 1.0

_PORT = typer.Option(help="Port to listen on (VODSYNC_PORT).")
_HOST = typer.Option(help="Address to listen on (VODSYNC_HOST).")


def serve(
    host: Annotated[str | None, _HOST] = None,
    port: Annotated[int | None, _PORT] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
) -> None:
    """Run the receiver: the address that VOD calls.

    It answers 200 once a notification is committed, and does nothing else with it; a worker does the rest.
    """
    here = runtime.current()
    here.require_callbacks()
    schema.check(here.store)
    import uvicorn

    # uvicorn stops in order, then raises the signal once more; being asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        "worker.web:app",
        host=host or here.settings.host,
        port=here.settings.port if port is None else port,
        workers=workers if workers > 1 else None,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE,
    )


def work(
    concurrency: Annotated[int, typer.Option(min=1, help="Batches fetched at the same time.")] = 4,
    beat: Annotated[
        bool, typer.Option("--beat", help="Also send the periodic wake-ups; one process of an installation is enough.")
    ] = False,
) -> None:
    """Run a worker: fetch what is due from VOD, twenty media a call, and store it.

    `celery -A worker.queue worker` does the same.
    """
    here = runtime.current()
    schema.check(here.store)
    here.require_credentials()
    from celery.beat import EmbeddedService, Scheduler

    from worker.queue import app

    worker = app.Worker(
        hostname=f"vodsync@{here.name}",
        concurrency=concurrency,
        pool="threads",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    clock = EmbeddedService(app, thread=True, scheduler_cls=Scheduler) if beat else None
    if clock is not None:
        clock.start()
    log.info("worker started", name=here.name, concurrency=concurrency, beat=beat)
    worker.start()
    if clock is not None:
        # Not clock.stop(), which waits for the next beat.
        clock.service.stop()
    log.info("worker stopped", name=here.name)
    raise typer.Exit(worker.exitcode or Exit.DONE)


def up(
    host: Annotated[str | None, _HOST] = None,
    port: Annotated[int | None, _PORT] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Batches fetched at the same time.")] = 4,
) -> None:
    """Run everything on this machine: migrate, then receiver, worker and beat.

    Needs four settings: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, VODSYNC_CALLBACK_URL as configured at VOD,
    and VODSYNC_CALLBACK_KEYS. Ctrl-C or SIGTERM stops in order; a role that dies is started again.
    """
    here = runtime.current()
    here.require_callbacks()
    here.require_credentials()
    _require_port(host or here.settings.host, here.settings.port if port is None else port)
    schema.upgrade(here.settings.database_url.get_secret_value(), schema=here.settings.database_schema)
    here.store.close()
    address = (host or here.settings.host, here.settings.port if port is None else port)
    roles = {
        "receiver": ["serve", "--host", address[0], "--port", str(address[1])],
        "worker": ["work", "--beat", "--concurrency", str(concurrency)],
    }
    say(f"vodsync: receiver on http://{address[0]}:{address[1]}/callbacks, worker and beat; Ctrl-C stops")
    raise typer.Exit(_Supervisor(roles).run())


def _require_port(host: str, port: int) -> None:
    """Raises ConfigurationError where nobody could listen there."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with VODSYNC_HOST and VODSYNC_PORT"
        ) from None


class _Supervisor:
    """Starts roles as processes, starts them again when they die, and stops them together."""

    def __init__(self, roles: dict[str, list[str]]) -> None:
        self._commands = {name: [sys.executable, "-m", "worker", *arguments] for name, arguments in roles.items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._running = {name: self._spawn(name) for name in self._commands}
        code = 0
        while not self._stopping.wait(0.2):
            for name, process in self._running.items():
                ended = process.poll()
                if ended == Exit.CONFIGURATION:
                    code = ended
                    self._stop()
                elif ended is not None:
                    log.error("role died and is started again", role=name, code=ended)
                    time.sleep(_RESTART)
                    if not self._stopping.is_set():
                        self._running[name] = self._spawn(name)
        return self._wait() or code

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        # A process group of its own: Ctrl-C at the terminal reaches the roles through us, once.
        return subprocess.Popen(self._commands[name], start_new_session=True)  # noqa: S603

    def _stop(self, number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        again = self._stopping.is_set()
        self._stopping.set()
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def _wait(self) -> int:
        deadline = time.monotonic() + _GRACE + 5
        for name, process in self._running.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("role did not stop in time and was killed", role=name)
                process.kill()
                process.wait()
                return Exit.FAILED
        return Exit.DONE


def module_environment(**settings: str) -> dict[str, Any]:
    """An environment for one of our processes with exactly these settings: nothing of ours leaks in from outside."""
    ours = ("VODSYNC_", "ALIBABA_CLOUD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings
