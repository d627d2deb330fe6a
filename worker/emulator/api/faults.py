"""What goes wrong on request."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from worker.emulator.library.seeded_random import SeededRandom

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Rule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """When a fault strikes: in a share of the calls, or in the next so many. `operation` limits it to one operation."""

    probability: Share = 0
    next: Count = 0
    operation: str = ""
    #: For `slow`: how long the answer is held back.
    seconds: Seconds = 5
    #: For `credentials`: InvalidAccessKeyId.NotFound, InvalidAccessKeyId.Inactive, Forbidden.RAM, OperationDenied.Suspended, …
    code: str = "InvalidAccessKeyId.NotFound"


class Faults(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """All faults, as they are set with PUT /emulator/faults. What a request leaves out is off."""

    #: Held back for `seconds`, then treated like any other call.
    slow: Rule | None = None
    #: The connection is closed without an answer.
    reset: Rule | None = None
    #: 200 and all headers, then the connection breaks in the middle of the body.
    halfway: Rule | None = None
    #: 200 with half of the JSON and a Content-Length that agrees.
    truncated: Rule | None = None
    #: 200 with bytes that are no JSON.
    garbage: Rule | None = None
    #: 502 with a gateway's HTML page.
    html: Rule | None = None
    #: 500 InternalError.
    http_500: Rule | None = None
    #: 503 ServiceUnavailable.
    service_unavailable: Rule | None = None
    #: 400 Throttling.User, whatever the quota says.
    throttle: Rule | None = None
    #: The `code` of a key or an account that may not call.
    credentials: Rule | None = None
    #: The queue answers a long poll at once with 404 MessageNotExist, as it does under too many (vod-protocol 3.2).
    early_404: Rule | None = None
    #: The queue knows only the deletion of one message by its address, and refuses the other form with 400 InvalidArgument.
    single_delete: Rule | None = None
    #: The queue does not take what VOD writes; applies to events, not to calls.
    unwritable_queue: Rule | None = None
    #: Notifications that never leave VOD: each event in a share of them, or the next so many; applies to events, not to calls.
    lost_notifications: Rule | None = None

    #: Media ids by what is wrong with them. A batch with a poisonous one is refused whole; late ones are unknown for so many
    #: seconds.
    poisonous: set[str] = msgspec.field(default_factory=set)
    forbidden: set[str] = msgspec.field(default_factory=set)
    gone: set[str] = msgspec.field(default_factory=set)
    late: dict[str, Seconds] = msgspec.field(default_factory=dict)
    #: The API shows the library as it was so many seconds ago, while notifications are up to date (vod-protocol 2.5).
    lag_seconds: Seconds = 0
    #: SearchMedia lists the library as it was so many seconds ago: uploads, changes and deletions enter the search index late
    #: (vod-protocol 6.1). It never shows more than the rest of the API.
    search_lag_seconds: Seconds = 0
    #: A batch of nothing but unknown ids is refused with 404 InvalidVideo.NotFound (vod-protocol 4.4 leaves this open).
    refuse_all_unknown: bool = False


#: Only one of these ends a call; the first that strikes.
ENDINGS = ("reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable", "throttle", "credentials")


class FaultInjector:
    """The faults in force. Random ones come from the seed, so the same calls in the same order meet the same faults."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.set(Faults())

    def set(self, faults: Faults, *, now: float | None = None) -> None:
        """Replace all faults; the times of late ids count from `now` (unix seconds)."""
        self.faults = faults
        self._set_at = time.time() if now is None else now
        self._dice = SeededRandom(self._seed, "faults")

    def strikes(self, name: str, operation: str = "") -> Rule | None:
        """The rule of fault `name` where it hits this call; counts down its `next`."""
        rule: Rule | None = getattr(self.faults, name)
        if rule is None or rule.operation not in ("", operation):
            return None
        if rule.next:
            rule.next -= 1
            return rule
        return rule if rule.probability and self._dice.chance(rule.probability) else None

    def ending(self, operation: str) -> tuple[str, Rule] | None:
        """The fault that ends this call, and its rule."""
        for name in ENDINGS:
            rule = self.strikes(name, operation)
            if rule is not None:
                return name, rule
        return None

    def hides(self, media_id: str, now: float) -> bool:
        """True where this medium is to look as if it did not exist."""
        faults = self.faults
        if media_id in faults.late:
            return now < self._set_at + faults.late[media_id]
        return media_id in faults.gone
