"""Describe one source that this process syncs from: its settings and its VOD client."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta

from worker.core.media import BATCH_LIMIT
from worker.sync.field_warnings import FieldWarnings
from worker.sync.retry_policy import DEFAULT_RETRY_POLICY, RetryPolicy
from worker.vod import Vod


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How a source is synced."""

    #: Name of the rate limit that the source's calls count against: sources of one account and region share one. "": its own.
    rate_limit_name: str = ""
    #: Sync requests per call.
    batch_size: int = BATCH_LIMIT
    #: Longest wait for a batch to fill.
    linger: timedelta = timedelta(milliseconds=250)
    #: A claim that is not finished after this time becomes due again.
    lease: timedelta = timedelta(seconds=60)
    #: Calls of BatchGetMediaInfos, all workers together.
    calls_per_second: float = 20
    #: Whether GetVideoInfo is called too (VODSYNC_VIDEO_INFO=on).
    video_info: bool = False
    #: Whether changes are recorded for the change feed (VODSYNC_CHANGES=on).
    announce: bool = False
    retry: RetryPolicy = DEFAULT_RETRY_POLICY


@dataclass(frozen=True, slots=True)
class SourceContext:
    """One source, the client that calls VOD for it, and how it is synced."""

    source: str
    vod: Vod
    settings: SyncSettings = field(default_factory=SyncSettings)
    #: Set when a batch has added GetVideoInfo calls to make.
    video_info_due: threading.Event = field(default_factory=threading.Event)
    field_warnings: FieldWarnings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "field_warnings", FieldWarnings(self.source))

    @property
    def rate_limit_name(self) -> str:
        """The name of the rate limit that the source's calls count against."""
        return self.settings.rate_limit_name or self.source
