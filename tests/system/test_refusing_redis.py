"""A Redis that takes every connection and refuses commands: after a failover, with a full disk, with a key that is not a queue."""

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
    """A redis-server of our own, to be broken and healed."""

    def __init__(self, folder: Path) -> None:
        program, port = require_program("redis-server"), free_port()
        self._folder = folder / "redis"
        self._folder.mkdir()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{port}/0"
        self._client: Any = redis.Redis(port=port)
        eventually(self._answers, within=10, missing="redis-server")

    def break_(self, kind: str) -> None:
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

    def heal(self, kind: str) -> None:
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
    made = PrivateRedis(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("kind", ["read-only", "cannot save", "not a queue"])
def test_a_redis_that_refuses_commands_delays_and_loses_nothing(broker: PrivateRedis, tmp_path: Path, kind: str) -> None:
    with installed(Pair(None, None), tmp_path, VODSYNC_BROKER_URL=broker.url) as ready:
        ready.start_emulator("--media", "20")
        media_ids: list[str] = ready.emulator.get("/media").json()["media_ids"]
        ready.start("receiver", "serve")
        worker = ready.start("worker", "work", "--beat")
        ready.wait_until_ready()
        arrive(ready, media_ids[:1])

        broker.break_(kind)
        arrive(ready, media_ids[1:4])
        # Longer than the pause between two looks at a broker that is not rung.
        time.sleep(12)
        during = broker_state(ready)
        lived = worker.running
        broker.heal(kind)
        eventually(lambda: broker_state(ready) == "ok", within=15, missing="a broker that is ok again")
        arrive(ready, media_ids[4:5])

        assert (lived, during) == (True, "degraded")
        eventually(lambda: broker.waiting() == 0, within=15, missing="a worker that takes wake-ups again")


def arrive(ready: Installation, media_ids: list[str]) -> None:
    """Tell of these media, and wait for their rows."""
    for media_id in media_ids:
        assert ready.notify(analysed(media_id)).status_code == 200
    eventually(
        lambda: set(media_ids) <= {row["media_id"] for row in ready.database.table("vod_media")},
        within=15,
        missing=lambda: f"{media_ids}; logs:\n{ready.logs()[-4000:]}",
    )


def broker_state(ready: Installation) -> str:
    state: str = ready.http.get("/readyz").json()["parts"]["broker"]["state"]
    return state
