"""A PgBouncer of a test's own, in front of a PostgreSQL server."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.conftest import require_program
from tests.system.processes import eventually, free_port

#: Its pool is smaller than the number of connections that vodsync opens, so that clients share the server's sessions.
CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = {pool_mode}
default_pool_size = {pool_size}
ignore_startup_parameters = {ignored}
"""

#: PgBouncer does not run as root.
USER = "nobody"


@contextmanager
def pgbouncer(url: str, *, pool_mode: str, ignored: str = "", pool_size: int = 8) -> Iterator[str]:
    """Run a PgBouncer with `ignore_startup_parameters` = `ignored`. Return `url` with its address."""
    program, target, listen_port = require_program("pgbouncer"), sa.make_url(url), free_port()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        (folder / "users.txt").write_text(f'"{target.username}" "{target.password or ""}"\n')
        configuration = CONFIGURATION.format(
            host=target.host,
            port=target.port or 5432,
            listen_port=listen_port,
            folder=folder,
            pool_mode=pool_mode,
            pool_size=pool_size,
            ignored=ignored,
        )
        (folder / "pgbouncer.ini").write_text(configuration)
        log = folder / "pgbouncer.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, folder / "pgbouncer.ini"],
                user=USER if os.geteuid() == 0 else None,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(
                lambda: _listens(listen_port), within=10, missing=lambda: f"an answer of PgBouncer: {log.read_text()[-2000:]}"
            )
            yield target.set(host="127.0.0.1", port=listen_port).render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
