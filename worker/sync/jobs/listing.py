"""List the library of a source with SearchMedia: one page or one count per step of a job, within the rate limit of the account."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from worker.sync.field_warnings import FieldWarnings
from worker.sync.jobs.paging import Cursor, PageResult, PagingError, match, next_cursor, restart
from worker.sync.jobs.step import JobRefusedError
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import DEFAULT_RETRY_POLICY
from worker.vod import Vod

log = logs.get(__name__)

#: Types of media that are listed, because assets of these types are stored.
MEDIA_TYPES = ("video", "audio")

#: A job stops listing while this many of the media that it requested are not fetched, so that a million are never due at once.
MAX_UNFETCHED = 5_000

#: How long a job waits before it looks again whether fewer are left.
BACKLOG_PAUSE = timedelta(milliseconds=500)

#: A step waits this long at most for a call within the rate limit. Otherwise the job is released and waits.
MAX_SLOT_WAIT = timedelta(seconds=2)

_OPERATION = "SearchMedia"


@dataclass(frozen=True, slots=True)
class Listing:
    """The library of one source at VOD. `rate_limit_name` is that of its account, `per_second` is the limit of searches."""

    store: Store
    vod: Vod
    source: str
    rate_limit_name: str
    per_second: float
    sleep: Callable[[float], object] = field(default=time.sleep)
    _field_warnings: FieldWarnings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_field_warnings", FieldWarnings(self.source))

    def page(
        self, media_type: str, cursor: Cursor, *, by_modification: bool = False, statuses: Sequence[str] = ()
    ) -> PageResult | Wait:
        """Return the rows at `cursor` and the next cursor, or a Wait if the rate limit allows no call now.

        Raises VodError, and JobRefusedError if the listing cannot be continued.
        """
        expression, order = match(cursor, by_modification=by_modification, statuses=statuses)
        try:
            page = self._call(lambda: self.vod.search_media(media_type, expression, order, cursor.page, cursor.token))
            return page if isinstance(page, Wait) else next_cursor(cursor, page, by_modification=by_modification)
        except VodRefusedError as error:
            if cursor.token is None or not error.code.startswith("InvalidScrollToken"):
                raise
            log.warning("listing restarted", source=self.source, type=media_type, code=error.code)
            return self._restarted(cursor)
        except PagingError as error:
            raise JobRefusedError(str(error)) from error

    def count(
        self, media_types: Sequence[str], window: Cursor, *, so_far: Mapping[str, int], statuses: Sequence[str] = ()
    ) -> dict[str, int] | Wait:
        """Return `so_far` and VOD's total of the next of `media_types` within `window`: one call per step.

        Returns a Wait if the rate limit allows no call now. Raises VodError.
        """
        media_type = next(media_type for media_type in media_types if media_type not in so_far)
        expression, order = match(window, statuses=statuses)
        page = self._call(lambda: self.vod.search_media(media_type, expression, order, 1))
        return page if isinstance(page, Wait) else {**so_far, media_type: page.total or 0}

    def has_backlog(self, reason: str) -> bool:
        """Return whether the job must pause, because MAX_UNFETCHED media requested for `reason` are not fetched yet."""
        with self.store.reading() as connection:
            return Inventory(connection, self.source).count_unfetched(reason, limit=MAX_UNFETCHED) >= MAX_UNFETCHED

    def _restarted(self, cursor: Cursor) -> PageResult:
        try:
            return PageResult((), restart(cursor))
        except PagingError as error:
            raise JobRefusedError(str(error)) from error

    def _call(self, search: Callable[[], dict[str, Any]]) -> Page | Wait:  # Any: VOD's JSON body as it came
        slot = acquire(
            self.store, self.rate_limit_name, _OPERATION, per_second=self.per_second, max_wait=MAX_SLOT_WAIT, sleep=self.sleep
        )
        if isinstance(slot, Wait):
            return slot
        self.sleep(slot.wait.total_seconds())
        try:
            response = search()
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(self.store, self.rate_limit_name, _OPERATION, error, DEFAULT_RETRY_POLICY)
            raise
        if slot.probing:
            self.store.transact(lambda connection: RateLimiter(connection).clear_error(self.rate_limit_name, _OPERATION))
        page = read_page(response)
        # A proxy between us and VOD may answer with a JSON object of its own, which is not an empty page.
        if page.total is None and not isinstance(response.get("MediaList"), list):
            raise VodUnreadableError("SearchMedia answered without a MediaList and a Total")
        if page.unreadable:
            fields = (name for name, count in page.unreadable.items() for _ in range(count))
            self._field_warnings.count("listing partly unreadable", (f"MediaList[].{name}" for name in fields))
        return page
