"""What became of media that somebody asked to fetch."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, or_, select

from worker.store.catalogue import FORBIDDEN, MISSING
from worker.store.tables import media, sync_request


class Outcome(enum.Enum):
    OK = "ok"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    DEAD = "dead"


_REQUESTS = select(sync_request.c.media_id, sync_request.c.state).where(
    sync_request.c.source == bindparam("s"),
    sync_request.c.media_id.in_(bindparam("ids", expanding=True)),
    # One that was answered, and only waits for more to come, was fetched.
    or_(sync_request.c.waits == 0, sync_request.c.state == "dead"),
)
_STATES = select(media.c.media_id, media.c.state).where(
    media.c.source == bindparam("s"), media.c.media_id.in_(bindparam("ids", expanding=True))
)


def outcomes(connection: Connection, source: str, keys: Sequence[str]) -> dict[str, Outcome]:
    """How each of these ended; those that are still due are left out. A settled reference id was found, so it is OK."""
    parameters = {"s": source, "ids": list(keys)}
    requests = {row.media_id: row.state for row in connection.execute(_REQUESTS, parameters)}
    states = {row.media_id: row.state for row in connection.execute(_STATES, parameters)}
    ended = {}
    for key in keys:
        if requests.get(key) == "dead":
            ended[key] = Outcome.DEAD
        elif key not in requests:
            ended[key] = {MISSING: Outcome.MISSING, FORBIDDEN: Outcome.FORBIDDEN}.get(states.get(key, ""), Outcome.OK)
    return ended
