"""What does the catalogue's comparing cost, beside a loop that only writes?

The bare loop writes the very rows that the catalogue writes, made beforehand, with Core executemany statements built once: INSERT
for the first write, upserts for the second. Both write twenty media per transaction, into equal databases, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Insert, Table, event, insert
from sqlalchemy.dialects import mysql, postgresql, sqlite

from benchmarks.installation import ServerMissingError, database, folder
from benchmarks.report import Measure, at_least
from worker.core.media import BATCH_LIMIT, Media
from worker.core.normalise import read_media
from worker.emulator.library.library import Library
from worker.store import Store, tables
from worker.store.catalogue.assets import Catalogue

_PART = "saving"
_SOURCE = "default"

_BESIDE_BARE = at_least(0.8)
_UNCHANGED = at_least(4)

_TABLES = (tables.media, tables.mezzanine, tables.audio_stream, tables.video_stream, tables.play_info, tables.raw)

_FIRST_SEEN = datetime(2026, 1, 5, 12, tzinfo=UTC)

#: What one transaction of the bare loop writes.
Rows = list[tuple[Table, list[dict[str, Any]]]]


@dataclass(slots=True)
class _Rates:
    """Media per second, one number a pass."""

    bare: list[float] = field(default_factory=list)
    bare_again: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    unchanged: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)


def measure(*, quick: bool) -> Iterator[Measure]:
    passes, size = (3, 400) if quick else (7, 600)
    library = Library(seed=1, existing=passes * size, quirks=True)
    now = _FIRST_SEEN.timestamp()
    medias = [media for index in range(passes * size) if (media := read_media(library.element(index, now))) is not None]
    slices = [medias[start : start + size] for start in range(0, len(medias), size)]
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        rows = _rows(Store.open(stack.enter_context(database("sqlite", place))), slices)
        for name, kind in (("SQLite", "sqlite"), ("PostgreSQL", "postgresql"), ("MariaDB", "mariadb")):
            try:
                ours, bare = (Store.open(stack.enter_context(database(kind, place))) for _ in range(2))
            except ServerMissingError as error:
                yield Measure(_PART, f"{name}: first write beside the bare loop", wanted=_BESIDE_BARE, note=str(error))
                yield Measure(_PART, f"{name}: unchanged beside the first write", wanted=_UNCHANGED, note=str(error))
                continue
            yield from _describe(name, _race(ours, bare, slices, rows))
            ours.close()
            bare.close()


def _race(ours: Store, bare: Store, slices: Sequence[list[Media]], rows: Sequence[list[Rows]]) -> _Rates:
    rates = _Rates()
    first = {table: insert(table) for table in _TABLES}
    again = {table: _upsert(bare.engine.dialect.name, table) for table in _TABLES}
    for number, (medias, groups) in enumerate(zip(slices, rows, strict=True)):
        changed = [_renamed(media) for media in medias]
        races: list[tuple[list[float], Callable[[], None]]] = [
            (rates.bare, partial(_write, bare, groups, first)),
            (rates.first, partial(_save, ours, medias, 0)),
            (rates.bare_again, partial(_write, bare, groups, again)),
            (rates.unchanged, partial(_save, ours, medias, 1)),
            (rates.changed, partial(_save, ours, changed, 2)),
        ]
        if number % 2:
            races[0], races[1] = races[1], races[0]
        for measured, run in races:
            started = time.perf_counter()
            run()
            # The first pass warms up connections and statement caches.
            if number:
                measured.append(len(medias) / (time.perf_counter() - started))
    return rates


def _save(store: Store, medias: Sequence[Media], seconds: int) -> None:
    at = _FIRST_SEEN + timedelta(seconds=seconds)
    for batch in _batches(medias):
        store.transact(partial(_save_batch, batch, at))


def _save_batch(batch: Sequence[Media], observed_at: datetime, connection: Connection) -> None:
    Catalogue(connection).save(_SOURCE, batch, observed_at=observed_at)


def _write(store: Store, groups: Sequence[Rows], statements: Mapping[Table, Insert]) -> None:
    for group in groups:
        with store.engine.begin() as connection:
            for table, rows in group:
                connection.execute(statements[table], rows)


def _rows(store: Store, slices: Sequence[list[Media]]) -> list[list[Rows]]:
    """What the catalogue writes for each slice, transaction by transaction, listened to on a database of its own."""
    heard: Rows = []

    def listen(_connection: object, statement: Any, many: Any, _one: object, _options: object) -> None:
        if isinstance(statement, Insert) and isinstance(statement.table, Table):
            heard.append((statement.table, [dict(row) for row in many]))

    event.listen(store.engine, "before_execute", listen)
    written: list[list[Rows]] = []
    for medias in slices:
        written.append([])
        for batch in _batches(medias):
            _save(store, batch, 0)
            written[-1].append(heard.copy())
            heard.clear()
    store.close()
    return written


def _upsert(dialect: str, table: Table) -> Insert:
    names = [column.name for column in table.columns if not column.primary_key]
    key = [column.name for column in table.primary_key]
    if dialect == "postgresql":
        statement = postgresql.insert(table)
        return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in names})
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        return lite.on_conflict_do_update(index_elements=key, set_={name: lite.excluded[name] for name in names})
    other = mysql.insert(table)
    return other.on_duplicate_key_update({name: other.inserted[name] for name in names})


def _batches(medias: Sequence[Media]) -> list[Sequence[Media]]:
    return [medias[start : start + BATCH_LIMIT] for start in range(0, len(medias), BATCH_LIMIT)]


def _renamed(media: Media) -> Media:
    return msgspec.structs.replace(media, title=f"{media.title} (2)")


def _describe(name: str, rates: _Rates) -> Iterator[Measure]:
    beside = _ratios(rates.first, rates.bare)
    yield Measure(_PART, f"{name}: bare loop, first write", rates.bare, "media/s")
    yield Measure(_PART, f"{name}: bare loop, again as upserts", rates.bare_again, "media/s")
    yield Measure(_PART, f"{name}: first write", rates.first, "media/s")
    yield Measure(_PART, f"{name}: first write beside the bare loop", beside, "×", _BESIDE_BARE)
    yield Measure(_PART, f"{name}: unchanged", rates.unchanged, "media/s")
    yield Measure(_PART, f"{name}: unchanged beside the first write", _ratios(rates.unchanged, rates.first), "×", _UNCHANGED)
    yield Measure(_PART, f"{name}: unchanged beside the bare upserts", _ratios(rates.unchanged, rates.bare_again), "×")
    yield Measure(_PART, f"{name}: changed", rates.changed, "media/s")
    yield Measure(_PART, f"{name}: changed beside the bare upserts", _ratios(rates.changed, rates.bare_again), "×")


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]
