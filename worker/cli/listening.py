"""Check that the receiver can listen on its address."""

from __future__ import annotations

import errno
import socket
import time

from worker.core.errors import ConfigurationError

#: The roles of an `up` that was killed end within this time and release its port.
PORT_WAIT = 5.0  # seconds
PORT_RETRY_INTERVAL = 0.1  # seconds


def require_port(host: str, port: int) -> None:
    """Raises ConfigurationError if this process cannot listen on the address. Waits a few seconds for a port in use."""
    deadline = time.monotonic() + PORT_WAIT
    while error := _listen_error(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another address with VODSYNC_HOST and VODSYNC_PORT"
            )
        time.sleep(PORT_RETRY_INTERVAL)


def _listen_error(host: str, port: int) -> OSError | None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return error
    return None
