"""Messages on `vodsync.reprocess` survive a Redis server that is killed."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from tests.conftest import require_program
from tests.system.fault_harness import FaultHarness, fault_settings
from tests.system.installation import Installation
from tests.system.processes import eventually, free_port
from tests.system.reprocess_queue import REQUEST, Queues, wait_for

PORT = free_port()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A function that starts, or starts again, a Redis that writes each change to disk before it responds."""
    program = require_program("redis-server")
    processes: list[subprocess.Popen[bytes]] = []
    options = f"--port {PORT} --dir {tmp_path} --appendonly yes --appendfsync always --save ''"

    def start_server() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(shlex.split(f"{program} {options}"), stdout=subprocess.DEVNULL)
        processes.append(process)
        with redis.Redis(port=PORT) as client:
            eventually(lambda: _responds(client), within=10, missing="a response from Redis")
        return process

    yield start_server
    for process in processes:
        process.kill()
        process.wait()


def _responds(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_killed_redis_loses_neither_waiting_nor_unacknowledged_messages(
    server: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = server()
    marker = tmp_path / "fault"
    installation = Installation(
        tmp_path, database_url=f"sqlite:///{tmp_path / 'vodsync.db'}", broker_url=f"redis://127.0.0.1:{PORT}/0"
    )
    # Closing stops every process and checks its exit code.
    with closing(installation):
        assert installation.run("migrate").returncode == 0
        harness = FaultHarness(installation)
        queues = Queues(installation)
        ids = [harness.new_notification()["VideoId"] for _ in range(40)]

        installation.start("held", "work", **fault_settings(f"{REQUEST}:before:hold", marker))
        for media_id in ids:
            queues.push({"media_ids": [media_id]})
        eventually(marker.exists, within=20, missing=installation.logs)
        first.kill()
        first.wait()
        time.sleep(2)
        server()
        marker.unlink()

        wait_for(harness, ids, within=60)
