"""The interface through which vodsync calls VOD. `client` implements it with the official SDK, `testing` without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Vod(Protocol):
    """Calls of one source's VOD. They return the parsed JSON body with all fields that VOD sent, and raise VodError."""

    #: True once a call was answered. Before that, the first call loads certificates and opens a connection.
    is_warm: bool

    @property
    def sent_at(self) -> float:
        """The time at which the calling thread's last request was sent, in seconds of the monotonic clock. 0 before the first."""
        ...

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        """Return the assets with these ids, 20 ids at most (vod-protocol 9.1)."""
        ...

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        """Return one asset from the operation that also has `AuditStatus` and `RegionId` (vod-protocol 9.7)."""
        ...

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        """Return page number `page`, from 1, of the library (vod-protocol 6.1).

        `search_type` is "video" or "audio". `token` is the ScrollToken of the previous page.
        """
        ...
