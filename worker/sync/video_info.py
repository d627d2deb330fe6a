"""What only the single-video operation knows: the review's result and the region of the bucket (VODSYNC_VIDEO_INFO=on)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from worker import logs
from worker.core.errors import VodError
from worker.core.normalise import read_video_info
from worker.store import Store
from worker.store.catalogue import Catalogue
from worker.store.quota import Quota, Slot
from worker.vod import Vod

log = logs.get(__name__)

_OPERATION = "GetVideoInfo"

#: Calls per second: 95 % of what VOD allows the account (vod-protocol 5).
_CALLS_PER_SECOND = 95.0

#: Who would have to wait longer than this for the operation's quota leaves it to the medium's next fetch.
_PATIENCE = timedelta(seconds=2)


def add_video_info(
    store: Store,
    vod: Vod,
    source: str,
    media_ids: Iterable[str],
    *,
    bucket: str = "",
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Ask for each of these media and store `audit_status` and `region_id`; gives how many were stored.

    The batch is stored and settled already: what fails here is logged, and made good by the medium's next fetch.
    """
    stored = 0
    bucket = bucket or source
    for media_id in media_ids:
        slot = store.transact(lambda connection: Quota(connection).take(bucket, _OPERATION, per_second=_CALLS_PER_SECOND))
        while isinstance(slot, timedelta):
            if slot > _PATIENCE:
                return stored
            sleep(slot.total_seconds())
            slot = store.transact(lambda connection: Quota(connection).take(bucket, _OPERATION, per_second=_CALLS_PER_SECOND))
        stored += _add(store, vod, source, media_id, slot, sleep)
    return stored


def _add(store: Store, vod: Vod, source: str, media_id: str, slot: Slot, sleep: Callable[[float], object]) -> bool:
    sleep(slot.wait.total_seconds())
    try:
        info = read_video_info(vod.get_video_info(media_id))
    except VodError as error:
        log.warning("video info not fetched", source=source, media_id=media_id, error=str(error), request_id=error.request_id)
        return False
    if info is None or info.media_id != media_id:
        log.warning("video info unreadable", source=source, media_id=media_id)
        return False
    store.transact(lambda connection: Catalogue(connection).save_video_info(source, info, observed_at=slot.at))
    return True
