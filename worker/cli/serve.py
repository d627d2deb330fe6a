"""`vodsync serve`: run the receiver."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from worker import runtime
from worker.cli.listening import require_port
from worker.cli.options import Host, Port, Supervised
from worker.cli.output import Exit, print_info
from worker.cli.supervisor import STOP_TIMEOUT, end_with_parent
from worker.process_signals import ignore_user_signals, stop_on_hangup
from worker.web.connections import IDLE, raise_descriptor_limit
from worker.web.http_protocol import LimitedHttpProtocol

#: Until a process of `--workers` that does not answer is replaced. uvicorn's 5 s are too short for a start on a busy machine.
WORKER_TIMEOUT = 120  # seconds


def serve(
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that share the port.")] = 1,
    supervised: Supervised = False,
) -> None:
    """Run the receiver, the HTTP endpoint that VOD calls.

    It answers 200 once a notification is committed. A worker does the rest.
    """
    installation = runtime.current()
    installation.require_callbacks()
    installation.require_broker()
    installation.require_spool()
    installation.require_schema(waiting=False)
    address = installation.address(host, port)
    require_port(*address)
    if supervised:
        end_with_parent()
    raise_descriptor_limit()
    print_info(f"vodsync: receiver on http://{address[0]}:{address[1]}/callbacks; Ctrl-C stops")
    # uvicorn stops in order and then raises the signal again. A requested stop must not end the process with an error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    options: dict[str, Any] = {  # Any: keyword arguments of uvicorn
        "app": "worker.cli.serve:application",
        "factory": True,
        "host": address[0],
        "port": address[1],
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "http": LimitedHttpProtocol,
        "ws": "none",
        "timeout_keep_alive": IDLE.timeout,
        "timeout_graceful_shutdown": STOP_TIMEOUT,
        "timeout_worker_healthcheck": WORKER_TIMEOUT,
    }
    if workers > 1:
        # This process only supervises from now on, and needs no connection.
        installation.store.close()
        config = uvicorn.Config(**options, workers=workers)
        processes = _Processes(config, [config.bind_socket()])
        # uvicorn has replaced it. The processes inherit that the signals are ignored.
        ignore_user_signals()
        processes.run()
        if processes.have_failed:
            raise typer.Exit(Exit.FAILED)
        return
    server = _Server(uvicorn.Config(**options))
    server.run()
    if not server.started:
        raise typer.Exit(Exit.FAILED)


def application() -> ASGIApp:
    """Return the application, in each process that serves it, after the signals of that process are set."""
    from worker.web import app

    ignore_user_signals()
    stop_on_hangup()
    return app


class _Processes(Multiprocess):
    """Stops in order at SIGHUP too, at which uvicorn would restart its processes."""

    @property
    def have_failed(self) -> bool:
        """True if a process could not start. It has printed the reason."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def handle_hup(self) -> None:
        self.handle_term()


class _Server(uvicorn.Server):
    """Stops in order at the first signal, and at once at the second."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)
