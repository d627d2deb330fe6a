"""Verbs that run: the receiver, the worker, or everything on one machine."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from types import FrameType
from typing import Annotated, Any

import typer

from worker import logs, runtime
from worker.cli.context import callback_path
from worker.cli.output import Exit, print_info
from worker.cli.supervisor import Supervisor, end_with_parent
from worker.core.errors import ConfigurationError, StoreUnavailableError
from worker.store import schema

log = logs.get(__name__)

#: Seconds that requests, or a batch, get to finish after SIGTERM.
_GRACE = 30

_SMQ = typer.Option("--smq", help="Also collect what VOD writes to a queue (VODSYNC_SMQ_ENDPOINT, VODSYNC_SMQ_QUEUE).")
_CONCURRENCY = typer.Option(min=1, help="Batches fetched at the same time; of several sources two at least.")
_PORT = typer.Option(min=0, max=65_535, help="Port to listen on (VODSYNC_PORT).")
_HOST = typer.Option(help="Address to listen on (VODSYNC_HOST).")
_SUPERVISED = typer.Option("--supervised", hidden=True)

#: Seconds in which the port of an `up` that was killed becomes free.
_PORT_PATIENCE = 5


def serve(
    host: Annotated[str | None, _HOST] = None,
    port: Annotated[int | None, _PORT] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    supervised: Annotated[bool, _SUPERVISED] = False,
) -> None:
    """Run the receiver: the address that VOD calls.

    It answers 200 once a notification is committed, and does nothing else with it; a worker does the rest.
    """
    here = runtime.current()
    here.require_callbacks()
    here.require_schema(waiting=False)
    address = (host or here.settings.host, here.settings.port if port is None else port)
    _require_port(*address)
    if supervised:
        end_with_parent()
    import uvicorn

    print_info(f"vodsync: receiver on http://{address[0]}:{address[1]}/callbacks; Ctrl-C stops")
    # uvicorn stops in order, then raises the signal once more; being asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    options: dict[str, Any] = {
        "app": "worker.web:app",
        "host": address[0],
        "port": address[1],
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": _GRACE,
    }
    if workers > 1:
        uvicorn.run(**options, workers=workers)
        return

    class Server(uvicorn.Server):
        """Stops in order at the first signal, and at once at the second."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit:
                os._exit(128 + sig)
            super().handle_exit(sig, frame)

    server = Server(uvicorn.Config(**options))
    server.run()
    if not server.started:
        raise typer.Exit(Exit.FAILED)


def work(
    concurrency: Annotated[int, _CONCURRENCY] = 4,
    beat: Annotated[
        bool, typer.Option("--beat", help="Also send the periodic wake-ups; one process of an installation is enough.")
    ] = False,
    smq: Annotated[bool, _SMQ] = False,
    supervised: Annotated[bool, _SUPERVISED] = False,
) -> None:
    """Run a worker: fetch what is due from VOD, twenty media a call, and store it.

    `celery -A worker.queue worker` does the same, but for --smq.
    """
    here = runtime.current()
    here.require_credentials()
    if smq:
        here.require_queues()
        here.collecting = True
    if supervised:
        end_with_parent()
    here.require_schema(waiting=True)
    from celery.beat import EmbeddedService

    from worker.queue import app
    from worker.queue.beat import Scheduler
    from worker.queue.worker_process import Worker

    if len(here.source_contexts) > 1:
        # One thread could wait for one source's VOD while the others have work.
        concurrency = max(2, concurrency)
    worker = Worker(
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
    log.info("worker started", name=here.name, concurrency=concurrency, beat=beat, smq=smq)
    worker.start()
    if clock is not None:
        # Not clock.stop(), which waits for the next beat.
        clock.service.stop()
    log.info("worker stopped", name=here.name)
    raise typer.Exit(worker.exitcode or Exit.DONE)


def up(
    host: Annotated[str | None, _HOST] = None,
    port: Annotated[int | None, _PORT] = None,
    concurrency: Annotated[int, _CONCURRENCY] = 4,
    smq: Annotated[bool, _SMQ] = False,
) -> None:
    """Run everything on this machine: migrate, then receiver, worker and beat.

    Needs four settings: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, VODSYNC_CALLBACK_URL as configured at VOD,
    and VODSYNC_CALLBACK_KEYS. Ctrl-C or SIGTERM stops in order; a role that dies is started again.
    """
    here = runtime.current()
    _require_everything(here, smq=smq)
    address = (host or here.settings.host, here.settings.port if port is None else port)
    _require_port(*address)
    migrated = _migrated(here)
    roles = {
        "receiver": ["serve", "--supervised", "--host", address[0], "--port", str(address[1])],
        "worker": ["work", "--supervised", "--beat", "--concurrency", str(concurrency), *(["--smq"] if smq else [])],
    }
    paths = " and ".join(map(callback_path, here.sources))
    print_info(f"vodsync: receiver on http://{address[0]}:{address[1]}{paths}, worker and beat; Ctrl-C stops")
    # While the database is away the receiver spools; the worker has nothing to do before there are tables.
    held = set() if migrated else {"worker"}
    raise typer.Exit(Supervisor(roles, grace=_GRACE, held=held, release=lambda: _migrated(here)).run())


def _require_everything(here: runtime.Runtime, *, smq: bool) -> None:
    """Raises ConfigurationError with all that is missing, so that it can be set in one go."""
    missing = []
    for require in (here.require_credentials, here.require_callbacks, *((here.require_queues,) if smq else ())):
        try:
            require()
        except ConfigurationError as error:
            missing.append(str(error))
    if missing:
        raise ConfigurationError("; ".join(missing))


def _migrated(here: runtime.Runtime) -> bool:
    """Bring the schema up to date; False where the server is away. Raises StoreUnavailable where no spool could stand in."""
    try:
        schema.upgrade(here.settings.database_url.get_secret_value(), schema=here.settings.database_schema)
    except StoreUnavailableError as error:
        if here.spool is None:
            raise
        log.warning("database is away; it is migrated once it is there", error=str(error))
        return False
    finally:
        here.store.close()
    return True


def _require_port(host: str, port: int) -> None:
    """Raises ConfigurationError where nobody could listen there."""
    deadline = time.monotonic() + _PORT_PATIENCE
    while fault := _port_fault(host, port):
        if fault.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {fault.strerror}; choose another with VODSYNC_HOST and VODSYNC_PORT"
            )
        time.sleep(0.1)


def _port_fault(host: str, port: int) -> OSError | None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return error
    return None


def module_environment(**settings: str) -> dict[str, Any]:
    """An environment for one of our processes with exactly these settings: nothing of ours leaks in from outside."""
    ours = ("VODSYNC_", "ALIBABA_CLOUD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings
