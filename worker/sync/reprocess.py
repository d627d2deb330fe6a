"""Turn the reprocess messages of other programs into sync requests, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from worker.core.reprocess import ReprocessRequest
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Request, SyncRequests

_PRIORITIES = {"live": LIVE, "manual": MANUAL, "backfill": BACKFILL}


def reprocess(store: Store, messages: Sequence[ReprocessRequest], *, now: datetime) -> None:
    """Request every asset that the messages name, or none of them. An asset that is named twice has the better priority.

    Raises StoreUnavailableError: nothing was written, and a retry is expected to succeed.
    """
    requests = [
        Request(message.source, key, message.reason, _PRIORITIES[message.priority]) for message in messages for key in message.keys
    ]
    # Of several requests for one asset, SyncRequests.request takes the last one.
    requests.sort(key=lambda request: -request.priority)
    store.transact(lambda connection: SyncRequests(connection).request(requests, now=now))
