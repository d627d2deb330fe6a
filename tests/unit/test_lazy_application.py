"""`worker.web:app`, which is created when a server starts it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import worker.web
from worker.asgi import LazyApplication
from worker.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


class Server:
    """An ASGI server that runs an application's lifespan, and sends requests between start and stop."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def run(self, *paths: str) -> list[Any]:
        """Return the messages of the lifespan and the status of each request, in order."""
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        lifespan = asyncio.create_task(self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put))
        await inbox.put({"type": "lifespan.startup"})
        started = await outbox.get()
        results: list[Any] = [started["type"]]
        if started["type"] == "lifespan.startup.complete":
            results += [await self.get(path) for path in paths]
            await inbox.put({"type": "lifespan.shutdown"})
            results.append((await outbox.get())["type"])
        await asyncio.gather(lifespan, return_exceptions=True)
        return results

    async def get(self, path: str) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        await self._app(scope, receive, send)
        status: int = sent[0]["status"]
        return status


class Creator:
    """Creates an application that answers 204, or raises `error`. Counts how often."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error

    def __call__(self) -> Any:
        self.count += 1
        if self._error is not None:
            raise self._error
        return self._application

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})


def test_the_application_is_an_attribute_of_the_module() -> None:
    app = vars(worker.web)["app"]

    assert isinstance(app, LazyApplication)
    assert app is worker.web.app


def test_the_application_is_created_once_at_each_start() -> None:
    creator = Creator()
    server = Server(LazyApplication(creator))
    before = creator.count

    first = asyncio.run(server.run("/a", "/b"))
    second = asyncio.run(server.run("/a"))

    assert before == 0
    assert first == ["lifespan.startup.complete", 204, 204, "lifespan.shutdown.complete"]
    assert second == ["lifespan.startup.complete", 204, "lifespan.shutdown.complete"]
    assert creator.count == 2


def test_a_server_without_lifespan_creates_the_application_at_the_first_request() -> None:
    creator = Creator()
    server = Server(LazyApplication(creator))

    async def scenario() -> list[int]:
        return [await server.get("/"), await server.get("/")]

    assert asyncio.run(scenario()) == [204, 204]
    assert creator.count == 1


def test_a_bad_configuration_fails_the_start_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(LazyApplication(Creator(ConfigurationError("set VODSYNC_CALLBACK_URL"))))

    first = asyncio.run(server.run("/"))

    assert first == ["lifespan.startup.failed"]
    assert capsys.readouterr().err == "vodsync: set VODSYNC_CALLBACK_URL\n"


def test_without_lifespan_a_bad_configuration_is_printed_once_and_answered_with_503(capsys: pytest.CaptureFixture[str]) -> None:
    creator = Creator(ConfigurationError("set VODSYNC_CALLBACK_URL"))
    server = Server(LazyApplication(creator))

    async def scenario() -> list[int]:
        return [await server.get("/"), await server.get("/")]

    assert asyncio.run(scenario()) == [503, 503]
    assert capsys.readouterr().err == "vodsync: set VODSYNC_CALLBACK_URL\n"
    assert creator.count == 2


def test_a_fault_of_ours_fails_the_start_too() -> None:
    server = Server(LazyApplication(Creator(ZeroDivisionError("a fault"))))

    assert asyncio.run(server.run("/")) == ["lifespan.startup.failed"]


def test_an_import_reads_no_settings_and_opens_nothing(tmp_path: Path) -> None:
    code = """
import sys
import worker.web
import worker.web.receiver, worker.web.group_commit, worker.web.health, worker.web.spool_drainer
from worker import runtime
print(runtime._current, "celery" in sys.modules)
"""
    environment = {**os.environ, "VODSYNC_NO_SUCH_SETTING": "1", "PYTHONPATH": str(ROOT)}

    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (process.returncode, process.stdout) == (0, "None False\n"), process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("access", ["vars(worker.web)['app']", "eval('app', vars(worker.web))", "worker.web.app"])
def test_the_receiver_starts_and_serves_however_a_server_reads_the_attribute(tmp_path: Path, access: str) -> None:
    code = f"""
import asyncio, worker.web
from tests.unit.test_lazy_application import Server
from worker.store import schema
schema.upgrade("sqlite:///vodsync.db")
print(asyncio.run(Server({access}).run("/livez", "/readyz", "/nothing")))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VODSYNC_")}
    environment |= {"PYTHONPATH": str(ROOT), "VODSYNC_CALLBACK_UNSIGNED": "accept"}

    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )

    assert process.stdout == "['lifespan.startup.complete', 200, 200, 404, 'lifespan.shutdown.complete']\n", process.stderr
