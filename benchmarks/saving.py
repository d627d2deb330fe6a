"""How fast does the catalogue, which compares before it writes, store assets relative to a plain SQL loop?

The plain loop writes the same prepared rows as the catalogue with Core executemany statements that are built once: INSERT for
the first write, upserts for the second. Both write twenty assets per transaction, alternately, into equal databases.
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

_RELATIVE_TO_PLAIN = at_least(0.8)
_UNCHANGED = at_least(4)  # relative to new assets

_TABLES = (tables.media, tables.mezzanine, tables.audio_stream, tables.video_stream, tables.play_info, tables.raw)

_FIRST_SEEN = datetime(2026, 1, 5, 12, tzinfo=UTC)

#: The rows that one transaction of the plain loop writes.
Rows = list[tuple[Table, list[dict[str, Any]]]]


@dataclass(slots=True)
class _Rates:
    """Assets per second, one number for each pass."""

    plain: list[float] = field(default_factory=list)
    plain_upserts: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    unchanged: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)


def measure(*, quick: bool) -> Iterator[Measure]:
    passes, size = (3, 400) if quick else (7, 600)
    library = Library(seed=1, existing=passes * size, quirks=True)
    now = _FIRST_SEEN.timestamp()
    assets = [media for index in range(passes * size) if (media := read_media(library.element(index, now))) is not None]
    slices = [assets[start : start + size] for start in range(0, len(assets), size)]
    with ExitStack() as stack:
        directory = stack.enter_context(folder())
        rows = _rows(Store.open(stack.enter_context(database("sqlite", directory))), slices)
        for name, kind in (("SQLite", "sqlite"), ("PostgreSQL", "postgresql"), ("MariaDB", "mariadb")):
            try:
                catalogue, plain = (Store.open(stack.enter_context(database(kind, directory))) for _ in range(2))
            except ServerMissingError as error:
                yield Measure(
                    _PART, f"{name}: new assets, vodsync relative to the plain SQL loop", wanted=_RELATIVE_TO_PLAIN, note=str(error)
                )
                yield Measure(_PART, f"{name}: vodsync, unchanged relative to new assets", wanted=_UNCHANGED, note=str(error))
                continue
            yield from _describe(name, _measure_alternately(catalogue, plain, slices, rows))
            catalogue.close()
            plain.close()


def _measure_alternately(catalogue: Store, plain: Store, slices: Sequence[list[Media]], rows: Sequence[list[Rows]]) -> _Rates:
    rates = _Rates()
    first = {table: insert(table) for table in _TABLES}
    again = {table: _upsert(plain.engine.dialect.name, table) for table in _TABLES}
    for number, (assets, groups) in enumerate(zip(slices, rows, strict=True)):
        changed = [_renamed(media) for media in assets]
        runs: list[tuple[list[float], Callable[[], None]]] = [
            (rates.plain, partial(_write, plain, groups, first)),
            (rates.first, partial(_save, catalogue, assets, 0)),
            (rates.plain_upserts, partial(_write, plain, groups, again)),
            (rates.unchanged, partial(_save, catalogue, assets, 1)),
            (rates.changed, partial(_save, catalogue, changed, 2)),
        ]
        if number % 2:
            runs[0], runs[1] = runs[1], runs[0]
        for measured, run in runs:
            started = time.perf_counter()
            run()
            # The first pass only fills connections and statement caches.
            if number:
                measured.append(len(assets) / (time.perf_counter() - started))
    return rates


def _save(store: Store, assets: Sequence[Media], seconds: int) -> None:
    at = _FIRST_SEEN + timedelta(seconds=seconds)
    for batch in _batches(assets):
        store.transact(partial(_save_batch, batch, at))


def _save_batch(batch: Sequence[Media], observed_at: datetime, connection: Connection) -> None:
    Catalogue(connection).save(_SOURCE, batch, observed_at=observed_at)


def _write(store: Store, groups: Sequence[Rows], statements: Mapping[Table, Insert]) -> None:
    for group in groups:
        with store.engine.begin() as connection:
            for table, rows in group:
                connection.execute(statements[table], rows)


def _rows(store: Store, slices: Sequence[list[Media]]) -> list[list[Rows]]:
    """Return the rows that the catalogue writes for each slice by transaction, recorded on another database."""
    recorded: Rows = []

    def record(_connection: object, statement: Any, many: Any, _one: object, _options: object) -> None:
        if isinstance(statement, Insert) and isinstance(statement.table, Table):
            recorded.append((statement.table, [dict(row) for row in many]))

    event.listen(store.engine, "before_execute", record)
    written: list[list[Rows]] = []
    for assets in slices:
        written.append([])
        for batch in _batches(assets):
            _save(store, batch, 0)
            written[-1].append(recorded.copy())
            recorded.clear()
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


def _batches(assets: Sequence[Media]) -> list[Sequence[Media]]:
    return [assets[start : start + BATCH_LIMIT] for start in range(0, len(assets), BATCH_LIMIT)]


def _renamed(media: Media) -> Media:
    return msgspec.structs.replace(media, title=f"{media.title} (2)")


def _describe(name: str, rates: _Rates) -> Iterator[Measure]:
    relative = _ratios(rates.first, rates.plain)
    yield Measure(_PART, f"{name}: new assets, plain SQL loop", rates.plain, "assets/s")
    yield Measure(_PART, f"{name}: stored assets, plain SQL loop with upserts", rates.plain_upserts, "assets/s")
    yield Measure(_PART, f"{name}: new assets, vodsync", rates.first, "assets/s")
    yield Measure(_PART, f"{name}: new assets, vodsync relative to the plain SQL loop", relative, "×", _RELATIVE_TO_PLAIN)
    yield Measure(_PART, f"{name}: unchanged assets, vodsync", rates.unchanged, "assets/s")
    yield Measure(
        _PART, f"{name}: vodsync, unchanged relative to new assets", _ratios(rates.unchanged, rates.first), "×", _UNCHANGED
    )
    yield Measure(
        _PART, f"{name}: unchanged assets, vodsync relative to the upserts", _ratios(rates.unchanged, rates.plain_upserts), "×"
    )
    yield Measure(_PART, f"{name}: changed assets, vodsync", rates.changed, "assets/s")
    yield Measure(
        _PART, f"{name}: changed assets, vodsync relative to the upserts", _ratios(rates.changed, rates.plain_upserts), "×"
    )


def _ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
