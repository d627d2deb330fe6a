"""Whether we live, whether we can store, and how the whole is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from worker import __version__
from worker.core.errors import StaleSchemaError, StoreUnavailableError
from worker.store import Store, schema
from worker.store.installation_health import InstallationHealth, installation_health
from worker.store.spool import Spool, Spooled
from worker.web import responses

#: Seconds: an answer about health that takes longer is an answer too.
_PATIENCE = 3.0


class Health:
    """`database_fault` says why notifications are spooled, `broker_fault` why wake-ups do not get through; None: all is well.

    `refusals` are sentences about callbacks that are not taken. With `feed` there is a change feed to tell of.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool | None,
        *,
        sources: Collection[str],
        database_fault: Callable[[], str | None],
        broker_fault: Callable[[], str | None],
        refusals: Callable[[], list[str]],
        now: Callable[[], datetime],
        feed: bool = False,
    ) -> None:
        self._store = store
        self._spool = spool
        self._sources = sources
        self._database_fault = database_fault
        self._broker_fault = broker_fault
        self._refusals = refusals
        self._now = now
        self._feed = feed
        # Threads of its own: a frozen database must not use up those of anybody else.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._spool_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool-health")

    async def livez(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, _request: Request) -> Response:
        """200 while notifications can be stored durably.

        A broker outage degrades: the sweep finds the work. So does a database outage while the spool takes notifications.
        """
        spool = await self._spool_state()
        away = "degraded" if spool["state"] == "ok" else "down"
        parts: dict[str, dict[str, Any]] = {
            "database": self._database(away),
            "schema": {"state": "ok"},
            "spool": spool,
            "broker": self._broker(),
        }
        try:
            await self._aside(lambda: schema.check(self._store))
        except StaleSchemaError as error:
            parts["schema"] = {"state": "down", "error": str(error)}
        except StoreUnavailableError as error:
            parts["database"] = {"state": away, "error": str(error)}
            parts["schema"] = {"state": away, "error": "not known while the database is down"}
        if parts["database"]["state"] == "ok" and spool["state"] == "down":
            spool["state"] = "degraded"
        down = [name for name, part in parts.items() if part["state"] == "down"]
        body: dict[str, Any] = {"ready": not down, "parts": parts}
        if down:
            body |= {"error": f"{down[0]}: {parts[down[0]]['error']}", "reason": down[0]}
        return responses.json(body, 503 if down else 200)

    async def statusz(self, _request: Request) -> Response:
        spool = await self._spool_state()
        body: dict[str, Any] = {"version": __version__, "broker": self._broker(), "spool": spool}
        spooled = Spooled(spool["count"] or 0, spool["since"]).problem
        problems = [*([spooled] if spooled else []), *self._refusals()]
        try:
            revision, seen = await self._aside(self._look)
        except StoreUnavailableError as error:
            return responses.json(body | {"database": {"state": "down", "error": str(error)}, "problems": [str(error), *problems]})
        schema_state = {"revision": revision, "expected": schema.REVISION}
        body |= {"database": self._database("degraded"), "schema": schema_state} | seen.as_json()
        return responses.json(body | {"problems": [*problems, *seen.problems]})

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._spool_thread.shutdown(wait=False)

    def _look(self) -> tuple[str, InstallationHealth]:
        revision = schema.current(self._store)
        if revision is None:
            raise StoreUnavailableError("the database has no vodsync tables yet; run: vodsync migrate")
        with self._store.reading() as connection:
            return revision, installation_health(connection, now=self._now(), sources=self._sources, feed=self._feed)

    async def _spool_state(self) -> dict[str, Any]:
        """`count` deliveries wait since `since`. "unused" where the database is a local file."""
        spool = self._spool
        if spool is None:
            return {"state": "unused", "count": 0, "since": None}

        def look() -> Spooled:
            spool.check()
            return spool.waiting()

        try:
            waiting = await self._aside(look, self._spool_thread)
        except StoreUnavailableError as error:
            return {"state": "down", "error": str(error), "count": None, "since": None}
        return {"state": "ok", "count": waiting.count, "since": waiting.since}

    def _database(self, away: str) -> dict[str, str]:
        """As the notifications find it: a database that can be read may still take none."""
        fault = self._database_fault()
        return {"state": away, "error": fault} if fault else {"state": "ok"}

    def _broker(self) -> dict[str, str]:
        fault = self._broker_fault()
        return {"state": "degraded", "error": fault} if fault else {"state": "ok"}

    async def _aside(self, work: Callable[[], Any], threads: ThreadPoolExecutor | None = None) -> Any:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        except TimeoutError:
            raise StoreUnavailableError(f"no answer within {_PATIENCE:g} s") from None
