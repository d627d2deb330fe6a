"""The library's listing as a job walks through it: one page a step, in the account's own rate for searches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from worker import logs
from worker.core.errors import VodCredentialsError, VodRefusedError, VodThrottledError, VodUnreadableError
from worker.core.listing import Page, read_page
from worker.core.wait import Wait
from worker.store import Store
from worker.store.jobs.inventory import Inventory
from worker.store.rate_limit import RateLimiter
from worker.sync.fetch import back_off
from worker.sync.jobs.paging import Cursor, PageResult, PagingError, match, next_cursor, restart
from worker.sync.jobs.run import JobRefusedError, Step
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import STANDARD
from worker.vod import Vod

log = logs.get(__name__)

#: Kinds of media that can be listed, and whose rows we store.
TYPES = ("video", "audio")

_OPERATION = "SearchMedia"

#: A walk rests while so many media that it found wait to be fetched, so that a million of them are never due at once.
_ENOUGH = 5_000

#: A wait for the next slot up to this long is sat out within a step.
_PATIENCE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Listing:
    """One source's listing."""

    store: Store
    vod: Vod
    source: str
    bucket: str
    per_second: float
    sleep: Callable[[float], object] = field(default=time.sleep)

    def page(
        self, search_type: str, position: Cursor, *, by_modification: bool = False, statuses: Sequence[str] = ()
    ) -> PageResult | Wait:
        """The rows at `position` and where to go on, or how long to wait first. Raises VodError and JobRefused."""
        found, order = match(position, by_modification=by_modification, statuses=statuses)
        try:
            page = self._call(lambda: self.vod.search_media(search_type, found, order, position.page, position.token))
            return page if isinstance(page, Wait) else next_cursor(position, page, by_modification=by_modification)
        except PagingError as error:
            raise JobRefusedError(str(error)) from error
        except VodRefusedError as error:
            if position.token is None or not error.code.startswith("InvalidScrollToken"):
                raise
            log.warning("listing begun again", source=self.source, type=search_type, code=error.code)
        try:
            return PageResult((), restart(position))
        except PagingError as error:
            raise JobRefusedError(str(error)) from error

    def total(self, checkpoint: dict[str, Any], types: Sequence[str], start: Cursor, *, statuses: Sequence[str] = ()) -> int | Step:
        """VOD's count of media of all `types` between the times of a walk that begins at `start`, or the step that comes before.

        One type a step; the checkpoint holds the counts so far.
        """
        so_far = checkpoint.get("totals", {})
        kind = next(kind for kind in types if kind not in so_far)
        high = start.later[-1][1] if start.later else start.high
        found, order = match(replace(start, high=high), statuses=statuses)
        page = self._call(lambda: self.vod.search_media(kind, found, order, 1))
        if isinstance(page, Wait):
            return Step(checkpoint, wait=page.duration)
        totals = {**so_far, kind: page.total or 0}
        return sum(totals.values()) if len(totals) == len(types) else Step(checkpoint | {"totals": totals})

    def rest(self, checkpoint: dict[str, Any], reason: str) -> Step | None:
        """A pause, where enough media are waiting to be fetched."""
        with self.store.reading() as connection:
            enough = Inventory(connection, self.source).unfetched(reason, limit=_ENOUGH) >= _ENOUGH
        return Step(checkpoint, wait=timedelta(milliseconds=500)) if enough else None

    def _call(self, ask: Callable[[], dict[str, Any]]) -> Page | Wait:
        slot = acquire(self.store, self.bucket, _OPERATION, per_second=self.per_second, patience=_PATIENCE, sleep=self.sleep)
        if isinstance(slot, Wait):
            return slot
        self.sleep(slot.wait.total_seconds())
        try:
            answer = ask()
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(self.store, self.bucket, _OPERATION, error, STANDARD)
            raise
        if slot.probing:
            self.store.transact(lambda connection: RateLimiter(connection).release(self.bucket, _OPERATION))
        page = read_page(answer)
        # Something before VOD may answer in its place, with an object of its own; that is not an empty page.
        if page.total is None and not isinstance(answer.get("MediaList"), list):
            raise VodUnreadableError("SearchMedia answered without a MediaList and a Total")
        return page
