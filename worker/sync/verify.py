"""Compare one asset's stored rows with what VOD returns now."""

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
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.sync.fetch import get_media_infos
from worker.sync.rate_limit import acquire
from worker.sync.source_context import SourceContext
from worker.sync.video_info import CALLS_PER_SECOND, GET_VIDEO_INFO, get_video_info
from worker.vod import Vod

#: If a slot of the rate limit is further away, the comparison fails.
MAX_WAIT = timedelta(seconds=10)

#: Columns that only GetVideoInfo fills.
_VIDEO_INFO_COLUMNS = ("audit_status", "region_id")


@dataclass(slots=True)
class Comparison:
    """`stored` and `at_vod` are states; `stored` is None if there is no row."""

    source: str
    media_id: str
    stored: str | None
    at_vod: str
    differences: list[Difference] = field(default_factory=list)
    #: What GetVideoInfo returned that is not stored (VODSYNC_VIDEO_INFO=off).
    not_kept: dict[str, str | None] = field(default_factory=dict)
    #: Why GetVideoInfo, whose answer is not stored, failed.
    error: str | None = None


def compare_with_vod(
    store: Store, context: SourceContext, media_id: str, *, sleep: Callable[[float], object] = time.sleep
) -> Comparison:
    """Call both operations, each within its rate limit, and return the differences. Writes nothing about the asset.

    Raises VodError, also if the rate limit would take too long, and StoreUnavailableError.
    """
    store_video_info = context.settings.video_info
    _wait_for_slot(store, context.rate_limit_name, BATCH_GET_MEDIA_INFOS, context.settings.calls_per_second, sleep)
    answer = _fetch(context.vod, media_id)
    media = next((media for media in answer.media if media.media_id == media_id), None)
    if media is None:
        return _compare_state(store, context.source, media_id, _state(answer, media_id))
    error: str | None = None
    video_info: dict[str, str | None] = {}
    try:
        _wait_for_slot(store, context.rate_limit_name, GET_VIDEO_INFO, CALLS_PER_SECOND, sleep)
        info = get_video_info(context.vod, media_id)
        video_info = {name: getattr(info, name) for name in _VIDEO_INFO_COLUMNS}
    except VodError as exc:
        if store_video_info:
            raise
        error = str(exc)
    comparison = _compare(store, context.source, media, video_info if store_video_info else {})
    comparison.not_kept, comparison.error = {} if store_video_info else video_info, error
    return comparison


def _compare(store: Store, source: str, media: Media, video_info: dict[str, str | None]) -> Comparison:
    with store.reading() as connection:
        record = media_view.find(connection, source, media.media_id) or {}
    stored = record.get("state")
    at_vod = media_view.answered(media) | video_info | {"state": OK}
    return Comparison(source, media.media_id, stored, OK, media_view.differences(record if stored else {}, at_vod))


def _compare_state(store: Store, source: str, media_id: str, at_vod: str) -> Comparison:
    """Compare an asset that VOD did not return."""
    with store.reading() as connection:
        record = media_view.find(connection, source, media_id) or {}
    stored = record.get("state")
    # VOD does not know a deleted asset any more.
    is_equal = stored in (at_vod, None) or (at_vod == MISSING and stored == DELETED)
    return Comparison(source, media_id, stored, at_vod, [] if is_equal else [Difference("state", stored, at_vod)])


def _fetch(vod: Vod, media_id: str) -> Answer:
    try:
        return get_media_infos(vod, [media_id], [])
    except VodRefusedError as error:
        if error.code != "InvalidVideo.NotFound":
            raise
        return Answer(request_id=error.request_id, missing=frozenset([media_id]))


def _state(answer: Answer, media_id: str) -> str:
    if media_id in answer.missing:
        return MISSING
    if media_id in answer.forbidden:
        return FORBIDDEN
    raise VodUnreadableError("VOD's answer does not mention this id")


def _wait_for_slot(store: Store, rate_limit_name: str, operation: str, per_second: float, sleep: Callable[[float], object]) -> None:
    slot = acquire(store, rate_limit_name, operation, per_second=per_second, max_wait=MAX_WAIT, sleep=sleep)
    if isinstance(slot, Wait):
        raise VodUnavailableError(_reason(store, rate_limit_name, operation, slot.duration))
    sleep(slot.wait.total_seconds())


def _reason(store: Store, rate_limit_name: str, operation: str, wait: timedelta) -> str:
    """Return why there is no slot."""
    with store.reading() as connection:
        errors = [
            back_off.fault
            for back_off in RateLimiter(connection).back_offs()
            if (back_off.source, back_off.operation) == (rate_limit_name, operation)
        ]
    reason = errors[0] if errors else "the rate limit is used up"
    return f"{operation} of source {rate_limit_name} is not called for another {wait.total_seconds():.0f} s: {reason}"
