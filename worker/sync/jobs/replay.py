"""Replay: handle recorded notifications again, as if VOD had just sent them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from worker.core.errors import NotificationRejectedError
from worker.core.events import parse
from worker.store import Store
from worker.store.inbox.notification_log import NotificationFilter, NotificationLog
from worker.store.inbox.sync_requests import MANUAL, Request, SyncRequests
from worker.store.jobs.job_rows import Job
from worker.sync.jobs.step import Progress, Step, from_json, to_json

KIND = "replay"

#: A step ends at this many media, because one notification may name a thousand.
MEDIA_PER_STEP = 1000


class Checkpoint(msgspec.Struct, frozen=True):
    """The ids of the last handled notification and of the last one to handle. This kind has one phase."""

    last_id: int = msgspec.field(name="id")
    final_id: int = msgspec.field(name="until")


@dataclass(frozen=True, slots=True)
class _Page:
    """The notifications up to the id `last_id`: how many matched the filter, and the media that they request."""

    last_id: int
    matched: int
    media_ids: list[str]


class Replay:
    """Parameters: the fields of NotificationFilter. Counters: notifications `matched`, media `requested`.

    Notifications received after the first step are not handled.
    """

    def __init__(self, store: Store, source: str) -> None:
        self._store = store
        self._source = source

    def step(self, job: Job, *, now: datetime) -> Step:
        """Request the media of the next notifications. Their number of deliveries does not change."""
        which: NotificationFilter = from_json(job.parameters, NotificationFilter, job)
        checkpoint = self._first() if job.checkpoint is None else from_json(job.checkpoint, Checkpoint, job)
        page = _read_page(self._store, self._source, which, after=checkpoint.last_id, until=checkpoint.final_id)
        following = Checkpoint(page.last_id, checkpoint.final_id)

        def write(connection: Connection) -> Progress:
            requests = [Request(self._source, media_id, KIND, MANUAL) for media_id in page.media_ids]
            SyncRequests(connection).request(requests, now=now)
            return Progress(following, {"matched": page.matched, "requested": len(requests)})

        return Step(write, is_last=page.last_id >= checkpoint.final_id)

    def _first(self) -> Checkpoint:
        return Checkpoint(last_id=0, final_id=_newest_id(self._store))


def parameters(which: NotificationFilter) -> dict[str, Any]:
    """Return the parameters of a job for these notifications, as JSON values."""
    return to_json(which)


def preview(store: Store, source: str, which: NotificationFilter) -> Iterator[dict[str, int]]:
    """Yield what each step of a job would count. Writes nothing. Raises StoreUnavailableError."""
    last_id, final_id = 0, _newest_id(store)
    while True:
        page = _read_page(store, source, which, after=last_id, until=final_id)
        yield {"matched": page.matched, "requested": len(page.media_ids)}
        last_id = page.last_id
        if last_id >= final_id:
            return


def _newest_id(store: Store) -> int:
    with store.reading() as connection:
        return NotificationLog(connection).newest()


def _read_page(store: Store, source: str, which: NotificationFilter, *, after: int, until: int) -> _Page:
    with store.reading() as connection:
        recorded = NotificationLog(connection).page(source, which, after=after, until=until)
    matched, media_ids = 0, dict[str, None]()
    for notification_id, body in recorded.notifications:
        try:
            notification = parse(body.encode())
        except NotificationRejectedError:
            # A release with other rules recorded it.
            continue
        if which.media_id is not None and which.media_id not in notification.media_ids:
            continue
        matched += 1
        if notification.needs_fetch:
            requested = notification.media_ids if which.media_id is None else (which.media_id,)
            media_ids |= dict.fromkeys(requested)
        if len(media_ids) >= MEDIA_PER_STEP:
            return _Page(notification_id, matched, list(media_ids))
    return _Page(until if recorded.last is None else recorded.last, matched, list(media_ids))
