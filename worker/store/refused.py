"""Keep notifications that the database refuses in a local file, with the reason, until an operator retries or drops them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Row, delete, func, or_, select, true
from sqlalchemy.dialects.sqlite import insert

from worker.store.inbox.notifications import Delivery
from worker.store.local_file import LocalFile, decode, encode, refused


@dataclass(frozen=True, slots=True)
class Refused:
    """How many refused notifications this machine keeps, since when, and why the latest one was refused.

    Without a number and a time, `reason` is why they cannot be read.
    """

    count: int
    since: datetime | None
    reason: str | None

    @property
    def problem(self) -> str | None:
        """What the operator should look at, in a sentence; None if there are none."""
        if self.since is None:
            return self.reason
        notifications = "1 notification was" if self.count == 1 else f"{self.count} notifications were"
        return (
            f"{notifications} refused by the database since {self.since:%Y-%m-%d %H:%M:%S} UTC ({self.reason}); remove the cause, "
            "then on this machine: vodsync failures list, vodsync failures retry"
        )


@dataclass(frozen=True, slots=True)
class RefusedDelivery:
    """One refused notification. `tries` counts how often the database refused it."""

    id: int
    delivery: Delivery
    reason: str
    refused_at: datetime
    tries: int


@dataclass(frozen=True, slots=True)
class RefusedFilter:
    """Match refused notifications of a source, with one of these ids, whose error contains `text` or whose event type is `text`.

    A field that is None matches all. Empty `ids` match none.
    """

    source: str | None = None
    ids: Collection[int] | None = None
    text: str | None = None

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on a row of the local file."""
        condition: ColumnElement[bool] = true()
        if self.source is not None:
            condition &= refused.c.source == self.source
        if self.ids is not None:
            condition &= refused.c.id.in_(list(self.ids))
        if self.text is not None:
            condition &= or_(func.instr(refused.c.reason, self.text) > 0, refused.c.event_type == self.text)
        return condition


class RefusedDeliveries:
    """The refused notifications in the local file. Every method raises StoreUnavailableError if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LocalFile(path)

    def put(self, refusals: Sequence[tuple[Delivery, str]], *, now: datetime) -> None:
        """Store deliveries and their reasons durably. A notification that is there already gets the new reason and one more try."""
        refused_at = now.astimezone(UTC).replace(tzinfo=None)
        statement = insert(refused)
        statement = statement.on_conflict_do_update(
            index_elements=["source", "event_key"],
            set_={"reason": statement.excluded.reason, "refused_at": statement.excluded.refused_at, "tries": refused.c.tries + 1},
        )
        rows = [
            {
                "source": delivery.source,
                "event_key": delivery.event_key,
                "event_type": delivery.event_type,
                "reason": reason,
                "refused_at": refused_at,
                "tries": 1,
                "delivery": encode(delivery),
            }
            for delivery, reason in refusals
        ]
        with self._file.writing() as connection:
            connection.execute(statement, rows)

    def summary(self) -> Refused:
        """Count the refused notifications."""
        if self._file.is_missing:
            return Refused(0, None, None)
        latest = select(refused.c.reason).order_by(refused.c.refused_at.desc(), refused.c.id.desc()).limit(1).scalar_subquery()
        with self._file.reading() as connection:
            count, since, reason = connection.execute(select(func.count(), func.min(refused.c.refused_at), latest)).one()
        return Refused(count, since.replace(tzinfo=UTC) if since else None, reason)

    def count(self, selection: RefusedFilter) -> int:
        """Return how many match."""
        if self._file.is_missing:
            return 0
        with self._file.reading() as connection:
            return connection.execute(select(func.count()).select_from(refused).where(selection.condition())).scalar_one()

    def ids(self, selection: RefusedFilter) -> list[int]:
        """Return the ids of those that match, the earliest first."""
        if self._file.is_missing:
            return []
        with self._file.reading() as connection:
            return list(connection.execute(select(refused.c.id).where(selection.condition()).order_by(refused.c.id)).scalars())

    def find(self, selection: RefusedFilter, *, limit: int) -> list[RefusedDelivery]:
        """Return up to `limit` that match, the latest first."""
        if self._file.is_missing:
            return []
        latest = refused.c.refused_at.desc(), refused.c.id.desc()
        with self._file.reading() as connection:
            return [
                _read(row)
                for row in connection.execute(select(refused).where(selection.condition()).order_by(*latest).limit(limit))
            ]

    def drop(self, selection: RefusedFilter) -> int:
        """Delete those that match. Return how many there were."""
        if self._file.is_missing:
            return 0
        with self._file.writing() as connection:
            return connection.execute(delete(refused).where(selection.condition())).rowcount

    def close(self) -> None:
        self._file.close()


def _read(row: Row[*tuple[object, ...]]) -> RefusedDelivery:
    values = row._mapping
    return RefusedDelivery(
        values["id"], decode(values["delivery"]), values["reason"], values["refused_at"].replace(tzinfo=UTC), values["tries"]
    )
