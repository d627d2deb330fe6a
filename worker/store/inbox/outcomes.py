"""Report how sync requests ended, for the caller that waits for them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from worker.store.asset_rows import asset_keys, is_any_asset
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.tables import media, sync_request


class Outcome(enum.Enum):
    """How a request ended. WAITING is for callers that stop waiting before the end."""

    WAITING = "waiting"
    OK = "ok"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    DELETED = "deleted"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """How the request for one id ended. `error` is its last error, None if it had none."""

    outcome: Outcome
    error: str | None = None


def outcomes(connection: Connection, source: str, keys: Sequence[str]) -> dict[str, SyncOutcome]:
    """Return how the requests for these ids ended. Requests that are still due are left out.

    A completed reference id is OK: VOD found an asset for it, which is stored under its media id.
    """
    parameters = asset_keys(source, keys)
    requests = {row.media_id: row for row in connection.execute(_REQUESTS, parameters)}
    assets = {row.media_id: row for row in connection.execute(_STATES, parameters)}
    ended = {key: _outcome(requests.get(key), assets.get(key)) for key in keys}
    return {key: outcome for key, outcome in ended.items() if outcome is not None}


def _outcome(request: Row[*tuple[Any, ...]] | None, asset: Row[*tuple[Any, ...]] | None) -> SyncOutcome | None:
    stored = SyncOutcome(_OUTCOMES.get(asset.state, Outcome.OK) if asset else Outcome.OK)
    if request is None:
        return stored
    if request.state == "dead":
        return SyncOutcome(Outcome.DEAD, request.last_error)
    if not request.waits:
        return None
    if request.priority == BACKFILL or (asset and asset.observed_at >= request.requested_at):
        # VOD answered; the request only waits for the final answer.
        return stored
    # The row is not marked missing yet, but this answer did not contain the asset: report that to the caller.
    return SyncOutcome(Outcome.MISSING, request.last_error)


_OUTCOMES = {MISSING: Outcome.MISSING, FORBIDDEN: Outcome.FORBIDDEN, DELETED: Outcome.DELETED}

_REQUESTS = select(
    sync_request.c.media_id,
    sync_request.c.state,
    sync_request.c.priority,
    sync_request.c.waits,
    sync_request.c.requested_at,
    sync_request.c.last_error,
).where(is_any_asset(sync_request))

_STATES = select(media.c.media_id, media.c.state, media.c.observed_at).where(is_any_asset(media))
