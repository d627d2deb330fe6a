"""What must hold for a notification, worked out with the standard library instead of our parser."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
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


def json_object(body: bytes, number: Callable[[str], Any] = str) -> dict[str, Any] | None:
    """Return the body as the standard library parses it, or None if it is not a JSON object in UTF-8. `number` converts numbers."""
    try:
        text = body.decode().removeprefix("\ufeff")
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=number, parse_float=number)
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


def is_id(value: object) -> bool:
    """Return whether `value` is a text that VOD accepts as one id."""
    return isinstance(value, str) and re.fullmatch("[A-Za-z0-9_-]{1,64}", value, re.ASCII) is not None


def wrong_readings(body: bytes, notification: events.Notification) -> list[str]:
    """Return which facts of the body the notification does not have."""
    document = json_object(body, number=lambda _: None)
    if document is None:
        return []
    fields: dict[str, str] = {}
    for name, value in document.items():
        fields.setdefault(name.strip(), value.strip() if isinstance(value, str) else "")
    named = [fields[name] for name in ("VideoId", "MediaId") if is_id(fields.get(name))][:1]
    listed = [part.strip() for part in fields.get("MediaIds", "").split(",")]
    wrong = []
    expected_ids = [*named, *filter(is_id, listed)]
    if not set(expected_ids) <= {*notification.media_ids} and not notification.dropped_ids:
        wrong.append(f"ids {expected_ids}")
    is_deletion = (
        (fields.get("EventType"), fields.get("DeleteType", "").lower()) == ("DeleteMediaComplete", "all")
        and fields.get("Status", "").lower() in ("success", "succeed", "succeeded")
        and fields.get("MediaType", "").lower() not in ("image", "attached")
        and bool(notification.media_ids)
    )
    if notification.is_deletion != is_deletion:
        wrong.append(f"deletion {is_deletion}")
    return wrong


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
