"""Any answer of VOD is read without an error, fits the database, and completes or retries every claimed request."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from tests.fuzz import mutations, samples
from tests.fuzz.answer_rules import differing_tables, expected_asset, misfits
from tests.fuzz.answer_values import wrong_values
from tests.fuzz.budget import share
from tests.fuzz.database import Database
from tests.fuzz.json_documents import weighted
from tests.fuzz.notification_rules import is_deep, is_storable
from worker.core.errors import VodUnreadableError
from worker.core.media import Answer, Media
from worker.core.normalise import content_hash, read_answer, read_media, read_video_info
from worker.core.urls import MAX_DEPTH
from worker.store import tables
from worker.store.catalogue.assets import Catalogue
from worker.store.inbox.sync_requests import LIVE, Request, SyncRequests
from worker.sync import batch
from worker.sync.source_context import SourceContext
from worker.vod import json_answers

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

MAX_READING_TIME = 1.0  # seconds of CPU time

#: VOD has not finished an asset, or its source file, in these states.
UNFINISHED = {"Uploading", "Transcoding", "Checking"}

#: The tables that saving an answer writes.
ASSET_TABLES = ("vod_media", "vod_mezzanine", "vod_audio_stream", "vod_video_stream", "vod_play_info", "vod_raw")

bodies = mutations.messages(samples.ANSWERS)


def decode_or_none(body: bytes) -> dict[str, Any] | None:
    """Return the decoded answer, or None if it is unreadable. Any other exception is a fault."""
    try:
        return json_answers.decode("BatchGetMediaInfos", body)
    except VodUnreadableError:
        return None


def read(body: bytes) -> Answer:
    """Return the answer in `body`, an empty one if it is unreadable."""
    return read_answer(decode_or_none(body) or {})


def with_reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_reversed_keys(value[key]) for key in reversed(value)}
    return [with_reversed_keys(inner) for inner in value] if isinstance(value, list) else value


def has_colliding_keys(value: dict[str, Any]) -> bool:
    """Return whether two keys may become equal when they are made storable. Then the last one counts."""
    return any(replaced in json.dumps(value) for replaced in ("\\u0000", "\\ud", "\\ufffd"))


def depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


# Reading


@given(bodies)
def test_any_answer_is_read_into_assets_that_can_be_stored(body: bytes) -> None:
    before = time.process_time()

    decoded = decode_or_none(body)
    answer = read_answer(decoded or {})

    assert time.process_time() - before < MAX_READING_TIME
    assert repr(decode_or_none(body)) == repr(decoded), "the answer was changed, or decoding is not repeatable"
    assert read_answer(decoded or {}) == answer
    read_video_info(decoded)
    if decoded is not None and not is_deep(body) and not has_colliding_keys(decoded):
        assert read_answer(with_reversed_keys(decoded)) == answer
    assert all(map(is_storable, [*answer.missing, *answer.missing_references, *answer.forbidden, answer.request_id]))
    assert len({media.media_id for media in answer.media}) == len(answer.media)
    for media in answer.media:
        check_asset(media)
    assert is_deep(body) or wrong_values(body, answer) == []


def check_asset(media: Media) -> None:
    assert misfits(media) == []
    assert depth(media.raw) <= MAX_DEPTH
    read_again = read_media(json.loads(json.dumps(media.raw, allow_nan=False)))
    assert read_again is not None
    assert read_again == media
    assert content_hash(read_again) == content_hash(media)
    assert len(content_hash(media)) == 64


# Saving


class Installation:
    """A database whose time advances with every write."""

    def __init__(self) -> None:
        self.database = Database()
        self.store = self.database.store
        self._now = NOON

    def later(self, duration: timedelta) -> datetime:
        self._now += duration
        return self._now


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    installation = Installation()
    yield installation
    installation.database.close()


#: Several answers about the same assets: different ones, or one that changes a little.
answer_sequences = weighted(
    (1, st.lists(mutations.messages(samples.ANSWERS_ABOUT_ONE_ASSET) | bodies, min_size=1, max_size=4)),
    (1, st.one_of([st.lists(mutations.messages([one]), min_size=2, max_size=3) for one in samples.ANSWERS_ABOUT_ONE_ASSET])),
)


@share(0.4)
@given(answer_sequences)
def test_saved_rows_equal_the_last_answers(installation: Installation, bodies: list[bytes]) -> None:
    installation.database.empty(*ASSET_TABLES)

    answers = [read(body) for body in bodies]
    with installation.store.engine.begin() as connection:
        for answer in answers:
            Catalogue(connection).save("default", answer.media, observed_at=installation.later(timedelta(seconds=1)))

    with installation.store.reading() as connection:
        for media_id in {media.media_id for answer in answers for media in answer.media}:
            history = [media for answer in answers for media in answer.media if media.media_id == media_id]
            stored = expected_asset(history)
            raw = select(tables.raw.c.answer).where(tables.raw.c.media_id == media_id)
            assert differing_tables(connection, "default", stored) == []
            assert json.dumps(connection.execute(raw).scalar_one(), sort_keys=True) == json.dumps(stored.parts.raw, sort_keys=True)


# Syncing


class VodWithAnswer:
    """Answers every call with the same body."""

    def __init__(self, body: bytes) -> None:
        self.is_warm = True
        self.sent_at = 0.0
        self._body = body

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        return json_answers.decode("BatchGetMediaInfos", self._body)

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        return json_answers.decode("GetVideoInfo", self._body)

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        raise NotImplementedError


requested_keys = st.lists(st.sampled_from((*samples.IDS, "ref:ref-000001")), min_size=1, max_size=5, unique=True)


@share(0.4)
@given(bodies, requested_keys)
def test_every_claimed_request_is_completed_or_waits_for_a_retry(installation: Installation, body: bytes, keys: list[str]) -> None:
    installation.database.empty(*ASSET_TABLES, "vod_sync_request", "vod_quota")
    now = installation.later(timedelta(minutes=10))
    requests = [Request("default", key, "fuzz", LIVE) for key in keys]
    installation.store.transact(lambda connection: SyncRequests(connection).request(requests, now=now - timedelta(minutes=1)))

    with mock.patch.object(batch, "log"):
        result = batch.sync_batch(
            installation.store, SourceContext("default", VodWithAnswer(body)), now=now, sleep=lambda seconds: None
        )

    with installation.store.reading() as connection:
        rows = {row.media_id: row for row in connection.execute(select(tables.sync_request))}
        states = dict(map(tuple, connection.execute(select(tables.media.c.media_id, tables.media.c.state))))
    assert result.claimed == len(keys)
    answer = read(body)
    for key in keys:
        row = rows.get(key)
        if row is None:
            # A completed request has left a row; that of a reference id has the media id as its key.
            assert key in states or key.startswith("ref:")
        else:
            assert row.claim is None
            assert row.last_error
            assert row.state == "dead" or row.available_at >= now
        outcome = "completed" if row is None else "dead" if row.state == "dead" else "failed" if row.attempts else "waits"
        assert outcome in expected_outcomes(key, answer)
    saved = {media.media_id for media in answer.media if {media.media_id, f"ref:{media.reference_id}"} & {*keys}}
    assert states.keys() <= {*keys} | saved
    assert {states[media_id] for media_id in saved} <= {"ok"}
    for key in {*keys} & answer.forbidden - answer.missing - {media.media_id for media in answer.media}:
        assert states[key] == "forbidden"


def expected_outcomes(key: str, answer: Answer) -> set[str]:
    """Return what may become of a live request for `key` after this answer, its first one."""
    outcomes = set()
    for media in answer.media:
        if key in (media.media_id, f"ref:{media.reference_id}"):
            statuses = {media.status, media.mezzanine.status if media.mezzanine else None}
            is_complete = media.has_details and (media.is_analysed or media.is_source_file_deleted)
            outcomes |= {"completed"} if is_complete and not statuses & UNFINISHED else {"waits"}
    if key in answer.missing:
        outcomes |= {"waits"}
    elif key in answer.forbidden:
        outcomes |= {"completed"}
    if key.removeprefix("ref:") in answer.missing_references and key.startswith("ref:"):
        outcomes |= {"dead"}
    return outcomes or {"failed"}
