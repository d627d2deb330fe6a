"""Recorded notifications, handled once more as if VOD had just sent them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from worker.core.errors import NotificationRejectedError
from worker.core.events import parse
from worker.store import Store
from worker.store.inbox.notification_log import NotificationFilter, NotificationLog
from worker.store.inbox.sync_requests import MANUAL, Inbox, Request
from worker.store.jobs.job_rows import Job
from worker.sync.jobs.run import Step

KIND = "replay"

#: A step ends at this many media, for one notification may name a thousand.
_MEDIA = 1000


@dataclass(frozen=True, slots=True)
class _Handled:
    """Up to the notification with the id `last`, so many were meant, and they ask for these media."""

    last: int
    matched: int
    media_ids: list[str]


class Replay:
    """A kind of job. Notifications that come in after its first step are not its business."""

    def __init__(self, store: Store, source: str) -> None:
        self._store = store
        self._source = source

    def step(self, job: Job, *, now: datetime) -> Step:
        """Request what the next notifications ask for; how often they were delivered stays as it is."""
        checkpoint = job.checkpoint or {"id": 0, "until": _newest(self._store)}
        which, until = _which(job.parameters), checkpoint["until"]
        handled = _handle(self._store, self._source, which, after=checkpoint["id"], until=until)

        def write(connection: Connection) -> Mapping[str, int]:
            requests = [Request(self._source, media_id, KIND, MANUAL) for media_id in handled.media_ids]
            Inbox(connection).request(requests, now=now)
            return {"matched": handled.matched, "requested": len(requests)}

        return Step(checkpoint | {"id": handled.last}, write, done=handled.last >= until)


def parameters(which: NotificationFilter) -> dict[str, Any]:
    """What the job is started with."""
    times = {name: value.isoformat() if value else None for name, value in (("since", which.since), ("until", which.until))}
    return times | {"event_type": which.event_type, "media_id": which.media_id}


def preview(store: Store, source: str, which: NotificationFilter) -> Iterator[dict[str, int]]:
    """What a job would count, step by step. Writes nothing. Raises StoreUnavailable."""
    reached, until = 0, _newest(store)
    while True:
        handled = _handle(store, source, which, after=reached, until=until)
        yield {"matched": handled.matched, "requested": len(handled.media_ids)}
        reached = handled.last
        if reached >= until:
            return


def _newest(store: Store) -> int:
    with store.reading() as connection:
        return NotificationLog(connection).newest()


def _handle(store: Store, source: str, which: NotificationFilter, *, after: int, until: int) -> _Handled:
    with store.reading() as connection:
        page = NotificationLog(connection).page(source, which, after=after, until=until)
    matched, media_ids = 0, dict[str, None]()
    for number, body in page.found:
        try:
            notification = parse(body.encode())
        except NotificationRejectedError:
            # Written down by a release that took it.
            continue
        if which.media_id is not None and which.media_id not in notification.media_ids:
            continue
        matched += 1
        if notification.needs_fetch:
            wanted = notification.media_ids if which.media_id is None else (which.media_id,)
            media_ids |= dict.fromkeys(wanted)
        if len(media_ids) >= _MEDIA:
            return _Handled(number, matched, list(media_ids))
    return _Handled(until if page.last is None else page.last, matched, list(media_ids))


def _which(parameters: Mapping[str, Any]) -> NotificationFilter:
    since, until = (datetime.fromisoformat(said) if (said := parameters.get(name)) else None for name in ("since", "until"))
    return NotificationFilter(since, until, parameters.get("event_type"), parameters.get("media_id"))
