"""What became of media that somebody asked to fetch."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.tables import media, sync_request


class Outcome(enum.Enum):
    WAITING = "waiting"
    OK = "ok"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    DELETED = "deleted"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """What became of one id; `error` is the last one where there was any."""

    outcome: Outcome
    error: str | None = None


_REQUESTS = select(
    sync_request.c.media_id,
    sync_request.c.state,
    sync_request.c.priority,
    sync_request.c.waits,
    sync_request.c.requested_at,
    sync_request.c.last_error,
).where(sync_request.c.source == bindparam("s"), sync_request.c.media_id.in_(bindparam("ids", expanding=True)))
_STATES = select(media.c.media_id, media.c.state, media.c.observed_at).where(
    media.c.source == bindparam("s"), media.c.media_id.in_(bindparam("ids", expanding=True))
)


def outcomes(connection: Connection, source: str, keys: Sequence[str]) -> dict[str, SyncOutcome]:
    """How each of these ended; those that are still due are left out. A settled reference id was found, so it is OK."""
    parameters = {"s": source, "ids": list(keys)}
    requests = {row.media_id: row for row in connection.execute(_REQUESTS, parameters)}
    medias = {row.media_id: row for row in connection.execute(_STATES, parameters)}
    ended = {}
    for key in keys:
        request, shown = requests.get(key), medias.get(key)
        stored = SyncOutcome(_OUTCOMES.get(shown.state, Outcome.OK) if shown else Outcome.OK)
        if request is None:
            ended[key] = stored
        elif request.state == "dead":
            ended[key] = SyncOutcome(Outcome.DEAD, request.last_error)
        elif request.waits and (request.priority == BACKFILL or (shown and shown.observed_at >= request.requested_at)):
            # It was answered, and only waits for more to come.
            ended[key] = stored
        elif request.waits:
            # It is asked for again, because a known medium is not gone for one answer; this one did not have it.
            ended[key] = SyncOutcome(Outcome.MISSING, request.last_error)
    return ended


_OUTCOMES = {MISSING: Outcome.MISSING, FORBIDDEN: Outcome.FORBIDDEN, DELETED: Outcome.DELETED}
