"""Log fields of VOD's answers that cannot be read: each kind of field once an hour, with a count."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from worker import logs

log = logs.get(__name__)

_INTERVAL = timedelta(hours=1)
_POSITION = re.compile(r"\[\d+\]")


class FieldWarnings:
    """Counts by field of one source. Safe for several threads. `clock` returns seconds, like `time.monotonic`.

    A form of a field that is new to vodsync would otherwise cause one line for each asset and fetch.
    """

    def __init__(self, source: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        #: By kind of field: when it was logged last, and how often it occurred since.
        self._fields: dict[str, tuple[float | None, int]] = {}

    def count(self, phrase: str, fields: Iterable[str], *, media_id: str | None = None) -> None:
        """Count fields, named by their path in the answer. Log `phrase` for those that were not logged in the last hour."""
        for field in fields:
            kind = _POSITION.sub("[]", field)
            with self._lock:
                logged_at, count = self._fields.get(kind, (None, 0))
                is_due = logged_at is None or self._clock() - logged_at >= _INTERVAL.total_seconds()
                self._fields[kind] = (self._clock(), 0) if is_due else (logged_at, count + 1)
            if is_due:
                log.warning(phrase, source=self._source, field=kind, count=count + 1, media_id=media_id)
