"""A Redis that accepts connections but refuses commands: after a failover, with a full disk, or with a key that is not a list."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import require_program
from tests.system.installation import Installation, Pair, analysed, installed
from tests.system.processes import eventually, free_port

QUEUE = "vodsync.sync"


class PrivateRedis:
    """A redis-server of this test, whose state can be changed."""

    def __init__(self, folder: Path) -> None:
        program, port = require_program("redis-server"), free_port()
        self._folder = folder / "redis"
        self._folder.mkdir()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{port}/0"
        # The stubs of redis describe several results as awaitable as well.
        self._client: Any = redis.Redis(port=port)
        eventually(self._answers, within=10, missing="redis-server")

    def inject_fault(self, kind: str) -> None:
        if kind == "read-only":
            self._client.execute_command("REPLICAOF", "127.0.0.1", "1")
        elif kind == "cannot save":
            self._client.config_set("save", "1 1")
            shutil.rmtree(self._folder)
            self._client.bgsave()
        else:
            self._client.delete(QUEUE)
            self._client.set(QUEUE, "not a list")
        eventually(self._refuses, within=10, missing=f"a Redis that is {kind}")

    def repair(self, kind: str) -> None:
        if kind == "read-only":
            self._client.execute_command("REPLICAOF", "NO", "ONE")
        elif kind == "cannot save":
            self._client.config_set("save", "")
            self._client.config_set("stop-writes-on-bgsave-error", "no")
        else:
            self._client.delete(QUEUE)

    def waiting(self) -> int:
        return int(self._client.llen(QUEUE))

    def stop(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            return bool(self._client.ping())
        except redis.ConnectionError:
            return False

    def _refuses(self) -> bool:
        try:
            self._client.lpush(QUEUE, "{}")
        except redis.ResponseError:
            return True
        return False


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ["read-only", "cannot save", "not a queue"])
def test_redis_that_refuses_commands_delays_and_loses_nothing(broker: PrivateRedis, tmp_path: Path, kind: str) -> None:
    with installed(Pair(None, None), tmp_path, VODSYNC_BROKER_URL=broker.url) as installation:
        installation.start_emulator("--media", "20")
        media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
        installation.start("receiver", "serve")
        worker = installation.start("worker", "work", "--beat")
        installation.wait_until_ready()
        notify_and_wait(installation, media_ids[:1])

        broker.inject_fault(kind)
        notify_and_wait(installation, media_ids[1:4])
        # Longer than the interval at which a receiver without wake-ups checks its broker.
        time.sleep(12)
        state_during_fault = broker_state(installation)
        worker_running = worker.running
        broker.repair(kind)
        eventually(lambda: broker_state(installation) == "ok", within=15, missing="a broker that is ok again")
        notify_and_wait(installation, media_ids[4:5])

        assert (worker_running, state_during_fault) == (True, "degraded")
        eventually(lambda: broker.waiting() == 0, within=15, missing="a worker that takes wake-ups again")


def notify_and_wait(installation: Installation, media_ids: list[str]) -> None:
    """Send notifications of these assets and wait for their rows."""
    for media_id in media_ids:
        assert installation.notify(analysed(media_id)).status_code == 200
    eventually(
        lambda: set(media_ids) <= {row["media_id"] for row in installation.database.table("vod_media")},
        within=15,
        missing=lambda: f"{media_ids}; logs:\n{installation.logs()[-4000:]}",
    )


def broker_state(installation: Installation) -> str:
    state: str = installation.http.get("/readyz").json()["parts"]["broker"]["state"]
    return state
