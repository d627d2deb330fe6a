"""Faults that the control API switches on, and the decision which calls they affect."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from worker.emulator.library.seeded_random import SeededRandom

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class FaultRule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which calls a fault affects: the `next` calls, then a random share of all (`probability`), if given only of `operation`."""

    probability: Probability = 0
    next: Count = 0
    operation: str = ""
    #: For `slow`: the delay of the answer.
    seconds: Seconds = 5
    #: For `credentials`: InvalidAccessKeyId.NotFound, InvalidAccessKeyId.Inactive, Forbidden.RAM, OperationDenied.Suspended, …
    code: str = "InvalidAccessKeyId.NotFound"


class Faults(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """All faults, the body of PUT /emulator/faults. A fault that the body leaves out is off."""

    #: The call waits for `seconds` and is then handled like any other.
    slow: FaultRule | None = None
    #: The connection is closed without an answer.
    reset: FaultRule | None = None
    #: 200 and all headers, then the connection breaks in the middle of the body.
    halfway: FaultRule | None = None
    #: 200 with half of the JSON and a Content-Length that agrees with it.
    truncated: FaultRule | None = None
    #: 200 with bytes that cannot be parsed.
    garbage: FaultRule | None = None
    #: 502 with the HTML page of a gateway.
    html: FaultRule | None = None
    #: 500 InternalError.
    http_500: FaultRule | None = None
    #: 503 ServiceUnavailable.
    service_unavailable: FaultRule | None = None
    #: 400 Throttling.User, also within the rate limit.
    throttle: FaultRule | None = None
    #: The error `code` of a key or an account that may not call.
    credentials: FaultRule | None = None
    #: The queue answers a long poll at once with 404 MessageNotExist, as it does with too many polls (vod-protocol 3.2).
    early_404: FaultRule | None = None
    #: The queue accepts only the deletion of one message with the receipt in the URL; a batch is refused with 400 InvalidArgument.
    single_delete: FaultRule | None = None
    #: The queue does not accept messages from VOD. Affects events, not calls.
    unwritable_queue: FaultRule | None = None
    #: VOD never sends the notification. Affects events, not calls.
    lost_notifications: FaultRule | None = None

    #: Media ids whose batch is refused as a whole.
    poisonous: set[str] = msgspec.field(default_factory=set)
    #: Media ids that the account may not read.
    forbidden: set[str] = msgspec.field(default_factory=set)
    #: Media ids that are reported as unknown.
    gone: set[str] = msgspec.field(default_factory=set)
    #: Media ids that are reported as unknown for this many seconds after the faults were set.
    late: dict[str, Seconds] = msgspec.field(default_factory=dict)
    #: The API shows the library of this many seconds ago, while notifications are up to date (vod-protocol 2.5).
    lag_seconds: Seconds = 0
    #: SearchMedia shows the library of this many seconds ago: uploads, changes and deletions reach the search index late
    #: (vod-protocol 6.1). If `lag_seconds` is larger, that value is used.
    search_lag_seconds: Seconds = 0
    #: A batch with only unknown ids is refused with 404 InvalidVideo.NotFound; VOD does not document this case (vod-protocol 4.4).
    refuse_all_unknown: bool = False


#: Faults that decide the answer of a call. The first one that affects a call is used.
TERMINAL_FAULTS = ("reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable", "throttle", "credentials")


class FaultInjector:
    """The current faults. Random decisions depend on the seed: the same calls in the same order have the same faults."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.set(Faults())

    def set(self, faults: Faults, *, now: float | None = None) -> None:
        """Replace all faults; the seconds of `late` count from `now` (unix seconds, default: the current time)."""
        self.faults = faults
        self._set_at = time.time() if now is None else now
        self._rng = SeededRandom(self._seed, "faults")

    def triggered(self, name: str, operation: str = "") -> FaultRule | None:
        """Return the rule of fault `name` if it affects this call, and reduce the rule's `next` by one."""
        rule: FaultRule | None = getattr(self.faults, name)
        if rule is None or rule.operation not in ("", operation):
            return None
        if rule.next:
            rule.next -= 1
            return rule
        return rule if rule.probability and self._rng.chance(rule.probability) else None

    def terminal_fault(self, operation: str) -> tuple[str, FaultRule] | None:
        """Return the name and the rule of the fault that decides the answer of this call, or None."""
        for name in TERMINAL_FAULTS:
            rule = self.triggered(name, operation)
            if rule is not None:
                return name, rule
        return None

    def hides(self, media_id: str, now: float) -> bool:
        """Return True if the asset must be reported as unknown at `now` (unix seconds)."""
        faults = self.faults
        if media_id in faults.late:
            return now < self._set_at + faults.late[media_id]
        return media_id in faults.gone
