"""What other programs ask for becomes sync requests, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from worker.core.reprocess import ReprocessRequest
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Request, SyncRequests

_PRIORITIES = {"live": LIVE, "manual": MANUAL, "backfill": BACKFILL}


def reprocess(store: Store, messages: Sequence[ReprocessRequest], *, now: datetime) -> None:
    """Request all that these messages name, or none of it. A medium that several name is asked for once, in the best lane.

    Raises StoreUnavailable (nothing was written, asking again is expected to work).
    """
    requests = [
        Request(message.source, key, message.reason, _PRIORITIES[message.priority]) for message in messages for key in message.keys
    ]
    # Of several for one medium the last one counts.
    requests.sort(key=lambda request: -request.priority)
    store.transact(lambda connection: SyncRequests(connection).request(requests, now=now))
