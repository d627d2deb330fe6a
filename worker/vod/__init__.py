"""The one interface through which we ask VOD; `client` speaks to the real one, `fake` to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Vod(Protocol):
    """Answers are the parsed JSON bodies, with every field that VOD sent. Errors are those of `worker.core.errors.VodError`."""

    #: A call was answered. Before the first one leaves, certificates are loaded and a connection is opened.
    warm: bool

    @property
    def left_at(self) -> float:
        """When this thread's last call left, by the monotonic clock, in seconds."""
        ...

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        """At most 20 ids together (vod-protocol 9.1)."""
        ...

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        """The single-video operation, which alone knows `AuditStatus` and `RegionId` (vod-protocol 9.7)."""
        ...

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        """A page of the library; `search_type` is video or audio, `token` that of the page before (vod-protocol 6.1)."""
        ...
