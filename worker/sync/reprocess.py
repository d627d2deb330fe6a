"""Turn the reprocess messages of other programs into sync requests, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from worker.core.reprocess import ReprocessRequest
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Request, SyncRequests
from worker.sync.isolate import Isolated, commit_in_parts
from worker.sync.receive import check_others

#: The message of the broker that contained a request.
M = TypeVar("M")

_PRIORITIES = {"live": LIVE, "manual": MANUAL, "backfill": BACKFILL}


def reprocess(store: Store, messages: Sequence[ReprocessRequest], *, now: datetime) -> None:
    """Request every asset that the messages name, or none of them. An asset that is named twice has the better priority.

    Raises RowRefusedError or StoreUnavailableError: nothing was written.
    """
    requests = [
        Request(message.source, key, message.reason, _PRIORITIES[message.priority]) for message in messages for key in message.keys
    ]
    # Of several requests for one asset, SyncRequests.request takes the last one.
    requests.sort(key=lambda request: -request.priority)
    store.transact(lambda connection: SyncRequests(connection).request(requests, now=now))


def reprocess_in_parts(
    store: Store, messages: Sequence[tuple[M, ReprocessRequest]], *, now: datetime
) -> Isolated[tuple[M, ReprocessRequest]]:
    """Request what each message names, except messages that the database refuses. Raises StoreUnavailableError: retry all."""

    def commit(part: Sequence[tuple[M, ReprocessRequest]]) -> int:
        reprocess(store, [request for _, request in part], now=now)
        return len(part)

    return commit_in_parts(messages, commit, check_others=lambda: check_others(store, now))
