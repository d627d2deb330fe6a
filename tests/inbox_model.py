"""Settings, possible events and expected rows of the state machine in test_inbox_machine.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from hypothesis import strategies as st

from tests.builders import SECOND
from worker.core.backoff import Backoff
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store.inbox.sync_requests import Claim
from worker.store.rate_limit import Slot
from worker.sync.fetch import FetchResult
from worker.sync.retry_policy import RetryPolicy
from worker.sync.source_context import SyncSettings

#: Batches overlap, requests become dead letters and retries end within a few steps. The rate limit has the
#: clock of the database; its rate is so high that no call waits.
SETTINGS = SyncSettings(
    batch_size=2,
    linger=0 * SECOND,
    lease=60 * SECOND,
    calls_per_second=100_000,
    retry=RetryPolicy(
        max_attempts=2,
        backoff=Backoff(5 * SECOND, 10 * SECOND),
        throttle_pause=0 * SECOND,
        credentials_pause=0 * SECOND,
        not_final_delays=(2 * SECOND, 15 * SECOND),
        follow_up=Backoff(30 * SECOND, 60 * SECOND),
        follow_up_limit=120 * SECOND,
    ),
)
WORKERS = 3
HIDDEN = ("gone", "forbidden", "silent")

MEDIA_IDS = st.sampled_from(["a", "b", "c"])
#: Kinds that complete a request are frequent: most races happen on completion.
KINDS = ["final", "final", "final", "transcoding", "announced", "gone", "gone", "forbidden", "silent"]
EVENTS: dict[str, dict[str, str]] = {
    "TranscodeComplete": {},
    "VideoAnalysisComplete": {"Status": "fail"},
    "DeleteMediaComplete": {"DeleteType": "all", "MediaType": "video"},
}
API_ERRORS: dict[str, list[VodError]] = {
    "unavailable": [VodUnavailableError("503")],
    "throttled": [VodThrottledError("Throttling.User")],
    "credentials": [VodCredentialsError("InvalidAccessKeyId.NotFound")],
    "one id refused": [VodRefusedError("InvalidParameter"), VodRefusedError("InvalidParameter")],
    "batch refused": [VodRefusedError("InvalidParameter")],
    "not yet": [
        VodRefusedError("not yet", code="Forbidden.IllegalStatus"),
        VodRefusedError("not yet", code="Forbidden.IllegalStatus"),
    ],
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The state of an asset at VOD: final, transcoding, announced, gone, forbidden, or silent, which is omitted from answers."""

    kind: str = "gone"
    version: int = 1

    @property
    def title(self) -> str:
        return f"version {self.version}"


@dataclass(frozen=True, slots=True)
class Row:
    """The expected row of vod_media and vod_mezzanine. `size` is the version of the last answer with an analysed file."""

    observed_at: datetime
    state: str
    title: str | None = None
    size: int | None = None
    deleted_at: datetime | None = None


@dataclass(eq=False)
class Worker:
    """One running batch. `requested` is how often each asset had been requested when it was claimed."""

    number: int
    now: datetime
    claim: Claim
    slot: Slot
    requested: dict[str, int]
    fetched: FetchResult | None = None
    answers: dict[str, tuple[Truth, datetime]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<worker {self.number} with {self.claim.media_ids}>"
