"""What events.parse makes of a body: a notification that can be stored, or a refusal."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NoReturn

from tests.fuzz import mutation, seeds
from worker.core import events
from worker.core.errors import NotificationRejectedError
from worker.core.ids import is_valid_id

#: Seconds of the processor that no body may take.
SLOW = 1.0

#: Event keys of which the content is remembered.
_REMEMBERED = 50_000

#: Levels of nesting up to which standard library and msgspec agree on what they take.
_SHALLOW = 400


class Notifications:
    name = "events"
    group = 64

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self._contents: dict[str, str] = {}

    def make(self, rng: Random) -> bytes:
        return mutation.message(rng, seeds.NOTIFICATIONS)

    def check(self, cases: Sequence[bytes]) -> Iterator[tuple[bytes, str]]:
        for body in cases:
            began = time.process_time()
            found = read(body)
            if time.process_time() - began > SLOW:
                yield body, f"slow: {len(body)} bytes"
            self.tally["refused" if found is None else "read"] += 1
            for complaint in complaints(body, found):
                yield body, complaint
            if found is not None and not self._is_its_own(found.event_key, body):
                yield body, "another notification has the same event key"

    def close(self) -> None:
        pass

    def _is_its_own(self, event_key: str, body: bytes) -> bool:
        if len(self._contents) > _REMEMBERED:
            self._contents.clear()
        said = content(body)
        return said is None or self._contents.setdefault(event_key, said) == said


def read(body: bytes) -> events.Notification | None:
    """None where it is refused; nothing but a refusal as malformed may be raised."""
    try:
        return events.parse(body)
    except NotificationRejectedError as refused:
        if refused.reason != "malformed":
            raise
        return None


def complaints(body: bytes, found: events.Notification | None) -> Iterator[str]:
    if read(body) != found:
        yield "not pure: the second reading differs"
    is_object, fields = stdlib_takes(body), stdlib(body)
    if is_object is not None and is_object is not (found is not None):
        yield f"the standard library {'takes' if is_object else 'refuses'} it and we do not agree"
    if found is None:
        return
    found.body.encode()
    if "\0" in found.body:
        yield "NUL in the stored body"
    if len(found.event_type) > events.MAX_EVENT_TYPE_LENGTH or len(found.status or "") > events.MAX_STATUS_LENGTH:
        yield "too long for its column"
    if not all(map(is_valid_id, found.media_ids)) or len(found.media_ids) > events.MAX_MEDIA_IDS:
        yield "an id that cannot be asked for"
    if any(not well_formed(said) for said in (found.event_type, found.status or "")):
        yield "a text that no database takes"
    if found.event_time is not None and found.event_time.year < 1000:
        yield "a time that MySQL does not take"
    # Deletions are read from the stored body again.
    again = read(found.body.encode())
    if again is None:
        yield "the stored body cannot be read"
    elif fields is not None and not _stripped(fields) and meaning(again) != meaning(found):
        yield f"the stored body says something else: {meaning(again)} for {meaning(found)}"


def meaning(found: events.Notification) -> tuple[Any, ...]:
    return found.event_type, found.media_ids, found.event_time, found.status, found.needs_fetch, found.is_deletion


def well_formed(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def stdlib_takes(body: bytes) -> bool | None:
    """Whether the body is one JSON object in UTF-8, as another parser sees it; None where nesting makes that a matter of taste."""
    return None if deep(body) else stdlib(body) is not None


def stdlib(body: bytes) -> dict[str, Any] | None:
    try:
        text = body.decode().removeprefix("\ufeff")
        found = json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def content(body: bytes) -> str | None:
    """A digest of what the notification says, however it is written; None where that is a matter of taste."""
    if deep(body):
        return None
    said = json.loads(body.decode().removeprefix("\ufeff"), parse_int=_whole, parse_float=_broken)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _whole(written: str) -> int | str:
    # Python refuses to convert more than 4,300 digits.
    return int(written) if len(written) <= 1000 else written


def _broken(written: str) -> float | str:
    return written if math.isinf(number := float(written)) else number


def deep(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > _SHALLOW


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


#: What a notification's meaning is read from.
_READ = {"EventType", "EventTime", "Status", "VideoId", "MediaId", "MediaIds", "TaskInput", "DeleteType", "MediaType", "SubType"}


def _stripped(fields: dict[str, Any]) -> bool:
    """Whether something that we read may be taken for the signature of a URL, which the stored body is without."""
    texts = [*fields, *(str(value) for name, value in fields.items() if name.strip() in _READ)]
    return any(sign in text for text in texts for sign in "?&\\")
