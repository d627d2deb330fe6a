"""Start vodsync processes quickly: import everything once, then fork a child for each request.

A role starts in tens of milliseconds instead of seconds. `ForkServer` in processes.py is the client. This module is run with the
descriptor of a socket: it forks a child for each message and reports when one has ended. It kills its children when the client
closes the socket.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.cli.application import VERBS, load_verb

#: Modules that take long to import.
_COMMON = (
    "alembic.command",
    "celery.apps.worker",
    "celery.beat",
    "celery.worker.consumer",
    "kombu.transport.filesystem",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
    "pymysql",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "structlog",
    "typer",
    "uvicorn.protocols.http.httptools_impl",
    "worker.emulator.server.app",
    "worker.store.schema",
    "worker.sync.drain",
    "worker.sync.verify",
    "worker.vod.client",
)

#: In place of the path of a file: the stream is closed, or a pipe whose reader has ended.
CLOSED = "closed"
BROKEN_PIPE = "broken pipe"

#: Imported by these modules. It reads the environment during the import.
_READS_ENVIRONMENT = "alibabacloud_credentials.utils.auth_util"


def serve(channel: socket.socket) -> None:
    """Fork children. Returns in each child; the server itself exits when the other side of `channel` is closed."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C ends the tests, which closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: set[int] = set()
    while True:
        watched: list[socket.socket | int] = [channel, reader]
        ready, _, _ = select.select(watched, [], [])
        if reader in ready:
            os.read(reader, 4096)
            _report_exits(channel, children)
        if channel not in ready:
            continue
        message = channel.recv(1 << 20)
        if not message:
            for child in children:
                os.kill(child, signal.SIGKILL)
            os._exit(0)
        request = json.loads(message)
        child = os.fork()
        if not child:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor in (channel.detach(), reader, writer):
                os.close(descriptor)
            _configure(request)
            return
        children.add(child)
        channel.send(json.dumps({"started": child}).encode())


def _report_exits(channel: socket.socket, children: set[int]) -> None:
    with suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            children.discard(child)
            channel.send(json.dumps({"exited": child, "code": os.waitstatus_to_exitcode(status)}).encode())


def _configure(request: dict[str, Any]) -> None:
    """Give the child its folder, environment, files and arguments."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    importlib.reload(sys.modules[_READS_ENVIRONMENT])
    for number, (path, flags) in enumerate(
        (
            (request["stdin"], os.O_RDONLY),
            (request["stdout"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            (request["stderr"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        )
    ):
        if path == CLOSED:
            os.close(number)
            continue
        opened = _broken_pipe() if path == BROKEN_PIPE else os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["vodsync", *request["arguments"]]
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(0, folder)
        custom = Path(folder, "sitecustomize.py")
        if custom.exists():
            _import(custom)


def _broken_pipe() -> int:
    """Return the descriptor of a pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _import(file: Path) -> None:
    """Import a sitecustomize module as Python does at the start of a process."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    for name in _COMMON:
        importlib.import_module(name)
    for verb in VERBS:
        load_verb(verb)
    serve(socket.socket(fileno=int(sys.argv[1])))
    from worker.cli import main

    main()
