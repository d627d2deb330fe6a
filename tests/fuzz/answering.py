"""VOD's answer from its bytes to the rows: nothing but the documented errors, and no medium that was asked for is lost."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from unittest import mock

import msgspec
from sqlalchemy import BigInteger, Boolean, Integer, String, Table, select
from sqlalchemy.sql.type_api import TypeEngine

from tests.fuzz import mutation, seeds
from tests.fuzz.database import Database
from tests.fuzz.notifications import SLOW, deep, well_formed
from worker.core.errors import VodUnreadableError
from worker.core.media import Answer, Media
from worker.core.normalise import content_hash, read_answer, read_media, read_video_info
from worker.core.urls import MAX_DEPTH
from worker.store import tables
from worker.store.catalogue.assets import Catalogue
from worker.store.inbox.sync_requests import LIVE, Request, SyncRequests
from worker.store.types import ExactDecimal, Json, UtcDateTime
from worker.sync import batch
from worker.sync.source_context import SourceContext
from worker.vod import json_answers

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_TABLES = (
    "vod_media",
    "vod_mezzanine",
    "vod_audio_stream",
    "vod_video_stream",
    "vod_play_info",
    "vod_raw",
    "vod_sync_request",
    "vod_quota",
)


@dataclass(frozen=True)
class Case:
    body: bytes
    #: The ids that a worker asked for, where a worker is to be seen at work.
    asked: tuple[str, ...]


class Answering:
    name = "answers"
    group = 40

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self._database = Database()
        self._now = NOON
        self._groups = 0

    def close(self) -> None:
        self._database.close()

    def make(self, rng: Random) -> Case:
        body = mutation.message(rng, seeds.ANSWERS)
        asked = (*seeds.IDS[: rng.randint(1, 4)], *(("ref:ref-000001",) if rng.random() < 0.3 else ()))
        return Case(body, asked if rng.random() < 0.05 else ())

    def check(self, cases: Sequence[Case]) -> Iterator[tuple[Case, str]]:
        self._groups += 1
        if self._groups % 50 == 1:
            self._database.empty(*_TABLES)
        read: list[tuple[Case, Answer]] = []
        for case in cases:
            began = time.process_time()
            said = decoded(case.body)
            answer = None if said is None else read_answer(said)
            if time.process_time() - began > SLOW:
                yield case, f"slow: {len(case.body)} bytes"
            self.tally["unreadable" if answer is None else f"{min(len(answer.media), 2)} media"] += 1
            if answer is not None and said is not None:
                read.append((case, answer))
                for complaint in _complaints(case.body, said, answer):
                    yield case, complaint
            if case.asked:
                self.tally["worked off"] += 1
                for complaint in self._work_off(case):
                    yield case, complaint
        with self._database.store.engine.begin() as connection:
            for _, answer in read:
                self._now += timedelta(seconds=1)
                Catalogue(connection).save("default", answer.media, observed_at=self._now)
        if read:
            case, answer = read[-1]
            for media in answer.media:
                for complaint in self._stored(media):
                    yield case, complaint

    def _stored(self, media: Media) -> Iterator[str]:
        """Whether the rows of a medium that was saved last say what it says."""
        if not (media.analysed or media.source_deleted):
            return
        children = (
            (tables.mezzanine, [media.mezzanine] if media.mezzanine else []),
            (tables.audio_stream, media.audio_streams),
            (tables.video_stream, media.video_streams),
            (tables.play_info, media.play_infos),
            (tables.media, [media]),
        )
        with self._database.store.reading() as connection:
            for table, expected in children:
                rows = connection.execute(select(table).where(*_is(table, media))).all()
                if Counter(_of_row(table, row) for row in rows) != Counter(_of_value(table, value) for value in expected):
                    yield f"{table.name} holds something else"
            answer = connection.execute(select(tables.raw.c.answer).where(*_is(tables.raw, media))).scalar_one()
            if answer != media.raw and json.dumps(answer) != json.dumps(media.raw):
                yield "vod_raw holds something else"

    def _work_off(self, case: Case) -> Iterator[str]:
        store, asked = self._database.store, case.asked
        self._now += timedelta(minutes=10)
        # Not "default": the worker dates its rows by the database's clock.
        requests = [Request("worker", media_id, "fuzz", LIVE) for media_id in asked]
        self._database.empty("vod_sync_request", "vod_quota")
        store.transact(lambda connection: SyncRequests(connection).request(requests, now=self._now - timedelta(minutes=1)))
        with mock.patch.object(batch, "log"):
            report = batch.sync_batch(store, SourceContext("worker", _Saying(case.body)), now=self._now, sleep=lambda seconds: None)
        if report.claimed != len(asked):
            yield f"{report.claimed} of {len(asked)} claimed"
        table = tables.sync_request
        with store.reading() as connection:
            left = {row.media_id: row for row in connection.execute(select(table))}
            known = set(connection.execute(select(tables.media.c.media_id).where(tables.media.c.source == "worker")).scalars())
        for media_id in asked:
            row = left.get(media_id)
            if row is None:
                # Settled: there is a row, or it was looked up by reference.
                if media_id not in known and not media_id.startswith("ref:"):
                    yield f"{media_id} is settled and unknown"
            elif row.claim is not None:
                yield f"{media_id} is still claimed"
            elif row.state != "dead" and (row.available_at < self._now or not row.last_error):
                yield f"{media_id} waits for nothing"


class _Saying:
    def __init__(self, body: bytes) -> None:
        self.is_warm = True
        self._body = body

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        return json_answers.decode("BatchGetMediaInfos", self._body)

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        return json_answers.decode("GetVideoInfo", self._body)


def _is(table: Table, media: Media) -> tuple[Any, Any]:
    return table.c.media_id == media.media_id, table.c.source == "default"


def decoded(body: bytes) -> dict[str, Any] | None:
    """None where it cannot be read; nothing else may be raised."""
    try:
        return json_answers.decode("BatchGetMediaInfos", body)
    except VodUnreadableError:
        return None


def _complaints(body: bytes, said: dict[str, Any], answer: Answer) -> Iterator[str]:
    again = decoded(body)
    if again is None or repr(again) != repr(said):
        yield "not pure: the answer was changed, or is decoded differently"
    elif not deep(body) and _reversible(said) and read_answer(_reversed(again)) != answer:
        yield "the order of keys matters"
    if read_answer(said) != answer:
        yield "not pure: the second reading differs"
    read_video_info(said)
    if len({media.media_id for media in answer.media}) != len(answer.media):
        yield "one medium twice"
    for ids in (answer.missing, answer.missing_references, answer.forbidden, {answer.request_id}):
        if not all(map(well_formed, ids)):
            yield "an id that no database takes"
    for media in answer.media:
        digest = content_hash(media)
        if len(digest) != 64 or content_hash(media) != digest:
            yield "the content hash differs from itself"
        stored = json.loads(json.dumps(media.raw, allow_nan=False))
        reread = read_media(stored)
        if reread != media or reread is None or content_hash(reread) != digest:
            yield "reading the stored answer again gives something else"
        if not msgspec.json.encode(media.raw) or _levels(media.raw) > MAX_DEPTH:
            yield "the raw answer is too deep"
        yield from _misfits(tables.media, media)
        for table, values in (
            (tables.mezzanine, [media.mezzanine] if media.mezzanine else []),
            (tables.audio_stream, media.audio_streams),
            (tables.video_stream, media.video_streams),
            (tables.play_info, media.play_infos),
        ):
            for value in values:
                yield from _misfits(table, value)


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


def _reversible(said: dict[str, Any]) -> bool:
    # Two keys that become one where they are made storable: the last one counts.
    return "\\u0000" not in (written := json.dumps(said)) and "\\ud" not in written and "\\ufffd" not in written


def _misfits(table: Table, value: object) -> Iterator[str]:
    for column in table.columns:
        held = getattr(value, column.name, None)
        if held is not None and not _fits(column.type, held):
            yield f"{table.name}.{column.name} does not take {str(held)[:60]!r}"


def _fits(kind: TypeEngine[Any], held: Any) -> bool:
    if isinstance(kind, ExactDecimal):
        return isinstance(held, Decimal) and abs(held) < 10**12 and held.as_tuple().exponent == -6
    if isinstance(kind, UtcDateTime):
        return isinstance(held, datetime) and held.utcoffset() == timedelta(0) and held.year >= 1000
    if isinstance(kind, Boolean):
        return isinstance(held, bool)
    if isinstance(kind, Integer):
        bits = 63 if isinstance(kind, BigInteger) else 31
        return type(held) is int and -(2**bits) <= held < 2**bits
    if kind is Json:
        return isinstance(held, tuple) and all(isinstance(part, str) and well_formed(part) for part in held)
    return isinstance(kind, String) and isinstance(held, str) and well_formed(held) and len(held) <= (kind.length or math.inf)


def _levels(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_levels, inside), default=0)


def _of_row(table: Table, row: Any) -> tuple[Any, ...]:
    return tuple(_plain(getattr(row, name)) for name in _compared(table))


def _of_value(table: Table, value: object) -> tuple[Any, ...]:
    return tuple(_plain(getattr(value, name)) for name in _compared(table))


def _compared(table: Table) -> list[str]:
    # What VOD says; the rest is ours.
    ours = {
        "source",
        "state",
        "first_seen_at",
        "observed_at",
        "changed_at",
        "deleted_at",
        "content_hash",
        "audit_status",
        "region_id",
    }
    if table is not tables.media:
        ours.add("media_id")
    return [column.name for column in table.columns if column.name not in ours]


def _plain(value: Any) -> Any:
    # SQLite keeps 15 digits of a decimal.
    if isinstance(value, Decimal):
        return f"{float(value):.12g}"
    return tuple(value) if isinstance(value, list) else value
