"""Remember refused callbacks, log them once a minute, and describe in sentences those that look like VOD's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker import logs
from worker.outage import Outage
from worker.settings import DEFAULT_SOURCE

log = logs.get(__name__)

#: Unsigned requests are a problem only if more than a scanner's visit: this many over this time, and no valid one so far.
MIN_UNSIGNED = 3
MIN_UNSIGNED_TIME = timedelta(minutes=1)

#: VOD may send its next notification hours later.
MISROUTED_SHOWN_FOR = timedelta(days=1)

MAX_PATH_LENGTH = 80  # characters; paths come from outside


@dataclass(slots=True)
class _Refused:
    """Callbacks of one source that were refused since the last one with a valid signature. `unsigned` of them had no signature."""

    since: datetime
    last_at: datetime
    reason: str
    count: int = 0
    unsigned: int = 0

    def is_problem(self, *, was_any_accepted: bool) -> bool:
        if self.count > self.unsigned:
            return True
        return not was_any_accepted and self.unsigned >= MIN_UNSIGNED and self.last_at - self.since >= MIN_UNSIGNED_TIME


@dataclass(slots=True)
class _Misrouted:
    """Signed requests that arrived at a wrong path or with a wrong method. `request` is the last one."""

    since: datetime
    last_at: datetime
    request: str
    count: int = 0


class Refusals:
    """The refused callbacks of one process. `sources` are the names of its sources.

    `clock_problem` returns a sentence if this machine's clock can be the reason why signatures of a source are stale.
    """

    def __init__(self, sources: Collection[str], *, clock_problem: Callable[[str], str | None] = lambda _source: None) -> None:
        self._clock_problem = clock_problem
        self._paths = ["/callbacks" if name == DEFAULT_SOURCE else f"/callbacks/{name}" for name in sources]
        self._accepted_at: dict[str, datetime] = {}
        self._refused: dict[str, _Refused] = {}
        #: By the word that the answer contains as its reason.
        self._misrouted: dict[str, _Misrouted] = {}
        self._logged = Outage()

    def accepted(self, source: str, now: datetime) -> None:
        """Record a callback with a valid signature."""
        self._accepted_at[source] = now
        if self._refused:
            refused = self._refused.pop(source, None)
            if refused and now - refused.since >= MIN_UNSIGNED_TIME:
                log.info("callbacks are accepted again", source=source, refused=refused.count, unsigned=refused.unsigned)

    def refused(self, source: str, reason: str, error: str, *, is_signed: bool, now: datetime) -> None:
        """Record a callback whose signature is missing, wrong or stale. `is_signed` is False if it has none of VOD's headers."""
        refused = self._refused.setdefault(source, _Refused(now, now, reason))
        refused.count += 1
        refused.unsigned += not is_signed
        refused.last_at = now
        if is_signed or refused.count == refused.unsigned:
            refused.reason = reason
        self.log(source, reason, error)

    def log(self, source: str, reason: str, error: str) -> None:
        """Log a refused callback, once a minute for each source and reason: any sender can cause it."""
        if self._logged.failed(error, kind=f"{source} {reason}"):
            log.warning("callbacks are refused", source=source, reason=reason, error=error)

    def misrouted(self, method: str, path: str, reason: str, now: datetime) -> None:
        """Record a signed request that was answered 404 or 405. `reason` is one of a few words."""
        # The path is text from outside, and a longer one may contain anything.
        request = logs.redactor.text(f"{method[:10]} {path[:MAX_PATH_LENGTH]!r}")
        misrouted = self._misrouted.setdefault(reason, _Misrouted(now, now, request))
        misrouted.count += 1
        misrouted.last_at = now
        misrouted.request = request
        if self._logged.failed(request, kind=reason):
            log.warning(
                "signed requests arrive at a path that takes no callbacks",
                request=request,
                reason=reason,
                count=misrouted.count,
                expected=f"POST {', '.join(self._paths)}",
            )

    def problems(self, now: datetime) -> list[str]:
        """Return a sentence for each source whose callbacks are refused, and for misrouted ones, with what to compare or change."""
        return [
            *(
                self._refused_sentence(source, refused)
                for source, refused in self._refused.items()
                if refused.is_problem(was_any_accepted=source in self._accepted_at)
            ),
            *(
                self._misrouted_sentence(misrouted)
                for misrouted in self._misrouted.values()
                if now - misrouted.last_at < MISROUTED_SHOWN_FOR
            ),
        ]

    def _refused_sentence(self, source: str, refused: _Refused) -> str:
        accepted_at = self._accepted_at.get(source)
        last = f"the last one was accepted at {_text(accepted_at)}" if accepted_at else "none was accepted since the start"
        unsigned = f", {refused.unsigned} of them without a signature" if 0 < refused.unsigned < refused.count else ""
        clock = self._clock_problem(source) if refused.reason == "stale" else None
        compare = "compare VODSYNC_CALLBACK_URL, VODSYNC_CALLBACK_KEYS and the clock with VOD's callback settings: vodsync doctor"
        return (
            f"{refused.count} callback{'s' if refused.count > 1 else ''} to source {source} refused since {_text(refused.since)} "
            f"({refused.reason}){unsigned}; {last}; {clock or compare}"
        )

    def _misrouted_sentence(self, misrouted: _Misrouted) -> str:
        requests = "1 signed request was" if misrouted.count == 1 else f"{misrouted.count} signed requests were"
        return (
            f"{requests} refused since {_text(misrouted.since)}, the last one {misrouted.request} at {_text(misrouted.last_at)}; "
            f"callbacks are taken with POST at {', '.join(self._paths)} only: correct the URL in VOD's callback settings, or what "
            "the proxy passes on"
        )


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
