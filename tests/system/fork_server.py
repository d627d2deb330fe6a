"""Where our processes are born: a process that has imported what all of them import, and forks.

A role starts in some tens of milliseconds that way, not in seconds. `start_process` in processes.py is the other side of the
socket. Run with the socket's descriptor, this module forks a child for each message and tells when one has ended; the children
do not outlive the test that asked for them.
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

#: What takes long.
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

#: Imported by them, and reads the environment while it is imported.
_OF_ENVIRONMENT = "alibabacloud_credentials.utils.auth_util"


def serve(channel: socket.socket) -> None:
    """Returns in each child; the nursery itself ends with whoever holds the other side of `channel`."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C is for the tests, whose end is the end of this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([channel, reader], [], [])
        if reader in ready:
            os.read(reader, 4096)
            _tell_ends(channel, children)
        if channel not in ready:
            continue
        message = channel.recv(1 << 20)
        if not message:
            for child in children:
                os.kill(child, signal.SIGKILL)
            os._exit(0)
        order = json.loads(message)
        child = os.fork()
        if not child:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor in (channel.detach(), reader, writer):
                os.close(descriptor)
            _become(order)
            return
        children.add(child)
        channel.send(json.dumps({"began": child}).encode())


def _tell_ends(channel: socket.socket, children: set[int]) -> None:
    with suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            children.discard(child)
            channel.send(json.dumps({"ended": child, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(order: dict[str, Any]) -> None:
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    importlib.reload(sys.modules[_OF_ENVIRONMENT])
    for number, (path, flags) in enumerate(
        (
            (order["stdin"], os.O_RDONLY),
            (order["stdout"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            (order["stderr"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        )
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["vodsync", *order["arguments"]]
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(0, folder)
        custom = Path(folder, "sitecustomize.py")
        if custom.exists():
            _import(custom)


def _import(file: Path) -> None:
    """As Python does with it at the start of a process."""
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
