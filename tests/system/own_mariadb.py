"""A MariaDB server of a test's own, with the options that the test chooses."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from tests.conftest import require_program
from tests.system.processes import eventually, free_port

#: The server refuses to run as root.
_USER = ("--user=mysql",) if os.geteuid() == 0 else ()


@contextmanager
def own_mariadb(*options: str) -> Iterator[str]:
    """Start a server, and yield the URL of an empty database. The server and its files are removed at the end."""
    install, server = require_program("mariadb-install-db"), require_program("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="vodsync-mariadb-"))
    data, port = folder / "data", free_port()
    # The server's user may not write to the tests' folder.
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = None
    try:
        if _USER:
            shutil.chown(folder, "mysql", "mysql")
        create = [install, "--no-defaults", f"--datadir={data}", *_USER, "--auth-root-authentication-method=normal"]
        subprocess.run(
            [*create, "--skip-test-db", "--skip-name-resolve"], check=True, capture_output=True, timeout=120, env=environment
        )
        small = ("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--skip-log-bin")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    server,
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--socket={folder / 'socket'}",
                    f"--pid-file={folder / 'pid'}",
                    f"--port={port}",
                    "--bind-address=127.0.0.1",
                    *_USER,
                    *small,
                    *options,
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: _is_up(port), within=20, missing=lambda: f"MariaDB; its log:\n{(folder / 'log').read_text()[-2000:]}")
        yield f"mariadb://root@127.0.0.1:{port}/vodsync"
    finally:
        if process is not None:
            process.terminate()
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _is_up(port: int) -> bool:
    engine = sa.create_engine(f"mariadb+pymysql://root@127.0.0.1:{port}/mysql", isolation_level="AUTOCOMMIT")
    with suppress(sa.exc.OperationalError), engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE vodsync"))
        return True
    return False
