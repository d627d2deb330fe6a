"""Answer /livez, /readyz and /statusz."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from worker import __version__
from worker.core.errors import StaleSchemaError, StoreUnavailableError
from worker.store import Store, schema
from worker.store.installation_health import InstallationHealth, installation_health
from worker.store.refused import Refused, RefusedDeliveries
from worker.store.spool import Spool, Spooled
from worker.web import responses
from worker.web.write_state import WriteState

T = TypeVar("T")

CHECK_TIMEOUT = 3.0  # seconds; a check that takes longer reports its part as down


class Health:
    """`write_state` knows whether notifications can be stored.

    `database_error` and `broker_error` return why notifications are spooled or wake-ups are not sent, None if all is well.
    `callback_problems` returns sentences about refused callbacks. With `change_feed`, /statusz reports on the change feed too.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool | None,
        refused: RefusedDeliveries,
        write_state: WriteState,
        *,
        sources: Collection[str],
        database_error: Callable[[], str | None],
        broker_error: Callable[[], str | None],
        callback_problems: Callable[[], list[str]],
        now: Callable[[], datetime],
        change_feed: bool = False,
    ) -> None:
        self._store = store
        self._spool = spool
        self._refused = refused
        self._write_state = write_state
        self._sources = sources
        self._database_error = database_error
        self._broker_error = broker_error
        self._callback_problems = callback_problems
        self._now = now
        self._change_feed = change_feed
        # Threads of their own: checks of a database that hangs must not occupy the threads of others.
        self._database_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")
        self._spool_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool-health")

    async def livez(self, _request: Request) -> Response:
        """Return 200 while the process serves requests. Uses neither database nor broker."""
        return PlainTextResponse("ok")

    async def readyz(self, _request: Request) -> Response:
        """Return 200 while notifications can be stored durably, otherwise 503 and the part that prevents it.

        This follows what happened to the last notifications: a database that can be read may refuse to write.
        A broker outage only degrades, because the workers' sweep finds the work. So does a database outage while the spool works.
        """
        spool = await self._check_spool()
        outage_state = "degraded" if spool["state"] == "ok" else "down"
        parts: dict[str, dict[str, Any]] = {
            "database": self._database(outage_state),
            "schema": {"state": "ok"},
            "spool": spool,
            "broker": self._broker(),
        }
        try:
            await _run(self._database_threads, lambda: schema.check(self._store))
        except StaleSchemaError as error:
            parts["schema"] = {"state": "down", "error": str(error)}
        except StoreUnavailableError as error:
            parts["database"] = {"state": outage_state, "error": str(error)}
            parts["schema"] = {"state": outage_state, "error": "not known while the database is down"}
        else:
            if write_error := await self._write_error():
                parts["database"] = {"state": outage_state, "error": write_error}
        if parts["database"]["state"] == "ok" and spool["state"] == "down":
            spool["state"] = "degraded"
        down = [name for name, part in parts.items() if part["state"] == "down"]
        content: dict[str, Any] = {"ready": not down, "parts": parts}
        if down:
            content |= {"error": f"{down[0]}: {parts[down[0]]['error']}", "reason": down[0]}
        return responses.json(content, 503 if down else 200)

    async def statusz(self, _request: Request) -> Response:
        """Return the state of the installation. 200 even if the database is down; `problems` then begins with its error."""
        spool = await self._check_spool()
        content: dict[str, Any] = {"version": __version__, "broker": self._broker(), "spool": spool}
        spool_problem = Spooled(spool["count"] or 0, spool["since"]).problem
        refused = await self._read_refused()
        content["refused"] = {"count": refused.count, "since": refused.since}
        problems = [*filter(None, (spool_problem, refused.problem)), *self._callback_problems()]
        try:
            revision, installation = await _run(self._database_threads, self._read_installation)
        except StoreUnavailableError as error:
            down = {"database": {"state": "down", "error": str(error)}, "problems": [str(error), *problems]}
            return responses.json(content | down)
        schema_state = {"revision": revision, "expected": schema.REVISION}
        database = self._database("degraded")
        if write_error := await self._write_error():
            database = {"state": "degraded" if self._spool else "down", "error": write_error}
            problems.insert(0, f"notifications cannot be written to the database: {write_error}")
        content |= {"database": database, "schema": schema_state} | installation.as_json()
        return responses.json(content | {"problems": [*problems, *installation.problems]})

    def close(self) -> None:
        self._database_threads.shutdown(wait=False)
        self._spool_thread.shutdown(wait=False)

    def _read_installation(self) -> tuple[str, InstallationHealth]:
        revision = schema.current(self._store)
        if revision is None:
            raise StoreUnavailableError("the database has no vodsync tables yet; run: vodsync migrate")
        with self._store.reading() as connection:
            return revision, installation_health(
                connection,
                now=self._now(),
                sources=self._sources,
                feed=self._change_feed,
                clock_ahead=self._store.clock.machine_ahead,
            )

    async def _write_error(self) -> str | None:
        """Return why the database does not take notifications; None if it does, or while they are spooled, which is known."""
        if self._database_error():
            return None
        try:
            await _run(self._database_threads, self._write_state.check)
        except StoreUnavailableError as error:
            return str(error)
        return None

    async def _read_refused(self) -> Refused:
        try:
            return await _run(self._spool_thread, self._refused.summary)
        except StoreUnavailableError as error:
            return Refused(0, None, str(error))

    async def _check_spool(self) -> dict[str, Any]:
        spool = self._spool
        if spool is None:
            return {"state": "unused", "count": 0, "since": None}

        def check() -> Spooled:
            spool.check()
            return spool.waiting()

        try:
            waiting = await _run(self._spool_thread, check)
        except StoreUnavailableError as error:
            return {"state": "down", "error": str(error), "count": None, "since": None}
        return {"state": "ok", "count": waiting.count, "since": waiting.since}

    def _database(self, outage_state: str) -> dict[str, str]:
        """Return the state as notifications experience it: a database that can be read may still refuse writes."""
        error = self._database_error()
        return {"state": outage_state, "error": error} if error else {"state": "ok"}

    def _broker(self) -> dict[str, str]:
        error = self._broker_error()
        return {"state": "degraded", "error": error} if error else {"state": "ok"}


async def _run(threads: ThreadPoolExecutor, check: Callable[[], T]) -> T:
    """Return the result of `check`. Raises StoreUnavailableError after `CHECK_TIMEOUT`; its thread then continues."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(threads, check)
    except TimeoutError:
        raise StoreUnavailableError(f"no answer within {CHECK_TIMEOUT:g} s") from None
