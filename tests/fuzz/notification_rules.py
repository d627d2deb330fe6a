"""What must hold for a notification, worked out with the standard library instead of our parser."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

from worker.core import events
from worker.core.errors import NotificationRejectedError

#: Levels of nesting up to which the standard library and msgspec accept the same documents.
_MAX_COMPARABLE_DEPTH = 400

#: The fields from which a notification is read.
_READ_FIELDS = {
    *("EventType", "EventTime", "Status", "VideoId", "MediaId", "MediaIds", "TaskInput", "DeleteType", "MediaType", "SubType"),
}


def parse_or_none(body: bytes) -> events.Notification | None:
    """Return the notification, or None if it is malformed. Any other exception is a fault."""
    try:
        return events.parse(body)
    except NotificationRejectedError as error:
        if error.reason != "malformed":
            raise
        return None


def is_storable(text: str) -> bool:
    """Return whether every database stores `text`."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def is_deep(body: bytes) -> bool:
    """Return whether `body` may be nested so deeply that parsers differ about it."""
    return body.count(b"[") + body.count(b"{") > _MAX_COMPARABLE_DEPTH


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the body as the standard library parses it, with numbers as text, or None if it is not a JSON object in UTF-8."""
    try:
        value = json.loads(body.decode().removeprefix("\ufeff"), parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def should_be_accepted(body: bytes) -> bool | None:
    """Return whether the body is a JSON object in UTF-8, or None if its nesting makes parsers differ."""
    return None if is_deep(body) else json_object(body) is not None


def content(body: bytes) -> str | None:
    """Return a digest of the content of an accepted body, for any layout of its JSON. None if its nesting makes parsers differ."""
    if is_deep(body):
        return None
    value = json.loads(body.decode().removeprefix("\ufeff"), parse_int=_int_or_text, parse_float=_float_or_text)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def meaning(notification: events.Notification) -> tuple[Any, ...]:
    """Return everything that a later reader takes from the stored body."""
    return (
        notification.event_type,
        notification.media_ids,
        notification.event_time,
        notification.status,
        notification.needs_fetch,
        notification.is_deletion,
    )


def may_lose_meaning(body: bytes) -> bool:
    """Return whether a field that we read contains what may be the signature of a URL, which the stored body does not have."""
    fields = json_object(body)
    if fields is None:
        return True
    texts = [*fields, *(str(value) for name, value in fields.items() if name.strip() in _READ_FIELDS)]
    return any(character in text for text in texts for character in "?&\\")


def _int_or_text(written: str) -> int | str:
    # Python refuses to convert more than 4,300 digits.
    return int(written) if len(written) <= 1000 else written


def _float_or_text(written: str) -> float | str:
    return written if math.isinf(number := float(written)) else number


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(constant)
