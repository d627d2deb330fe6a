"""The health of a receiver with a database, a spool and faults that a test sets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tests.builders import NOON, SECOND
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.refused import RefusedDeliveries
from worker.store.spool import Spool
from worker.web.health import Health
from worker.web.write_state import WriteState

REQUEST = Request({"type": "http"})


class Installation:
    """The health of a receiver without faults, until a test changes something."""

    def __init__(self, store: Store, spool: Spool | None) -> None:
        self.store = store
        self.spool = spool
        self.refused = RefusedDeliveries(Path("refused.db"))
        self.write_fault: str | None = None
        self.sources = ["default"]
        self.database_fault: str | None = None
        self.broker_fault: str | None = None
        self.callback_problems: list[str] = []
        self.has_change_feed = False

    def livez(self) -> Response:
        return self._get("livez")[0]

    def readyz(self) -> tuple[int, dict[str, Any]]:
        (response,) = self._get("readyz")
        return response.status_code, msgspec.json.decode(response.body)

    def readyz_repeatedly(self, times: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the answers of one process, one after another."""
        responses = self._get(*["readyz"] * times)
        return [(response.status_code, msgspec.json.decode(response.body)) for response in responses]

    def statusz(self) -> dict[str, Any]:
        (response,) = self._get("statusz")
        assert response.status_code == 200
        status: dict[str, Any] = msgspec.json.decode(response.body)
        return status

    def try_write(self) -> None:
        if self.write_fault:
            raise StoreUnavailableError(self.write_fault)

    def _get(self, *paths: str) -> list[Response]:
        health = Health(
            self.store,
            self.spool,
            self.refused,
            WriteState(self.try_write),
            sources=self.sources,
            database_error=lambda: self.database_fault,
            broker_error=lambda: self.broker_fault,
            callback_problems=lambda: self.callback_problems,
            now=lambda: NOON + 10 * SECOND,
            change_feed=self.has_change_feed,
        )
        endpoints = {"livez": health.livez, "readyz": health.readyz, "statusz": health.statusz}

        async def get_all() -> list[Response]:
            return [await endpoints[path](REQUEST) for path in paths]

        try:
            return asyncio.run(get_all())
        finally:
            health.close()


def unwritable(folder: Path) -> Spool:
    """A spool whose file cannot be opened."""
    (folder / "unwritable.db").mkdir()
    return Spool(folder / "unwritable.db")


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {name: part["state"] for name, part in answer["parts"].items()}
