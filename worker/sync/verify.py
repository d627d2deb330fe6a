"""Does VOD say of one medium what our rows say?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from worker.core.errors import VodError, VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.core.media import Answer, Media
from worker.core.wait import Wait
from worker.store import Store
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, OK
from worker.store.catalogue.media_view import Difference
from worker.store.rate_limit import BATCH, RateLimiter
from worker.sync.fetch import call
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import Policy
from worker.sync.video_info import CALLS_PER_SECOND, OPERATION, get_video_info
from worker.vod import Vod

#: Who would have to wait longer for the quota is told so.
_PATIENCE = timedelta(seconds=10)

#: What only the single-video operation knows.
_ADDED = ("audit_status", "region_id")


@dataclass(slots=True)
class Comparison:
    """`stored` and `at_vod` are states; `stored` is None where there is no row."""

    source: str
    media_id: str
    stored: str | None
    at_vod: str
    differences: list[Difference] = field(default_factory=list)
    #: What GetVideoInfo says and nobody asked us to keep (VODSYNC_VIDEO_INFO=off).
    not_kept: dict[str, str | None] = field(default_factory=dict)
    #: Why GetVideoInfo, whose answer is not kept, said nothing.
    error: str | None = None


def compare_with_vod(
    store: Store, vod: Vod, source: str, media_id: str, *, policy: Policy, sleep: Callable[[float], object] = time.sleep
) -> Comparison:
    """Ask both operations, each with a slot of its quota, and compare; writes no medium.

    Raises VodError, also where the quota would take too long, and StoreUnavailable.
    """
    bucket = policy.bucket or source
    _wait_for_slot(store, bucket, BATCH, policy.calls_per_second, sleep)
    answer = _ask(vod, media_id)
    media = next((media for media in answer.media if media.media_id == media_id), None)
    if media is None:
        return _absent(store, source, media_id, _state(answer, media_id))
    error: str | None = None
    added: dict[str, str | None] = {}
    try:
        _wait_for_slot(store, bucket, OPERATION, CALLS_PER_SECOND, sleep)
        info = get_video_info(vod, media_id)
        added = {name: getattr(info, name) for name in _ADDED}
    except VodError as fault:
        if policy.video_info:
            raise
        error = str(fault)
    live = _compare(store, source, media, added if policy.video_info else {})
    live.not_kept, live.error = {} if policy.video_info else added, error
    return live


def _compare(store: Store, source: str, media: Media, added: dict[str, str | None]) -> Comparison:
    with store.reading() as connection:
        record = media_view.find(connection, source, media.media_id) or {}
    stored = record.get("state")
    said = media_view.answered(media) | added | {"state": OK}
    return Comparison(source, media.media_id, stored, OK, media_view.differences(record if stored else {}, said))


def _absent(store: Store, source: str, media_id: str, at_vod: str) -> Comparison:
    with store.reading() as connection:
        record = media_view.find(connection, source, media_id) or {}
    stored = record.get("state")
    # What is deleted is unknown to VOD from then on.
    same = stored in (at_vod, None) or (at_vod == MISSING and stored == DELETED)
    return Comparison(source, media_id, stored, at_vod, [] if same else [Difference("state", stored, at_vod)])


def _ask(vod: Vod, media_id: str) -> Answer:
    try:
        return call(vod, [media_id], [])
    except VodRefusedError as error:
        if error.code != "InvalidVideo.NotFound":
            raise
        return Answer(request_id=error.request_id, missing=frozenset([media_id]))


def _state(answer: Answer, media_id: str) -> str:
    if media_id in answer.missing:
        return MISSING
    if media_id in answer.forbidden:
        return FORBIDDEN
    raise VodUnreadableError("VOD's answer passed over this id")


def _wait_for_slot(store: Store, bucket: str, operation: str, per_second: float, sleep: Callable[[float], object]) -> None:
    slot = acquire(store, bucket, operation, per_second=per_second, patience=_PATIENCE, sleep=sleep)
    if isinstance(slot, Wait):
        raise VodUnavailableError(_why(store, bucket, operation, slot.duration))
    sleep(slot.wait.total_seconds())


def _why(store: Store, bucket: str, operation: str, wait: timedelta) -> str:
    with store.reading() as connection:
        back_offs = [
            back_off
            for back_off in RateLimiter(connection).back_offs()
            if (back_off.source, back_off.operation) == (bucket, operation)
        ]
    why = back_offs[0].fault if back_offs else "the quota is used up"
    return f"{operation} of source {bucket} is held back for another {wait.total_seconds():.0f} s: {why}"
