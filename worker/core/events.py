"""What does this notification say?"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from worker.core import field_parsers, lenient_json
from worker.core.errors import NotificationRejectedError
from worker.core.ids import is_valid_id
from worker.core.urls import storable, strip_signature

#: What the columns of vod_notification hold.
EVENT_TYPE_LENGTH = 128
STATUS_LENGTH = 64

#: VOD names one medium in a notification; the bound is for bodies that somebody else wrote.
MEDIA_IDS_LIMIT = 1000

# Three vocabularies, by event type (vod-protocol 2.1).
_STATUS = {
    "success": "success",
    "succeed": "success",
    "succeeded": "success",
    "fail": "fail",
    "failed": "fail",
}

_OTHER_TYPES = frozenset({"ImageUploadComplete", "AttachedMediaUploadComplete"})

#: Where these types say which kind of media they are about; the values that are neither audio nor video.
_KIND_FIELD = {"DeleteMediaComplete": "MediaType", "MediaBaseChangeComplete": "MediaType", "CreateAuditComplete": "SubType"}
_OTHER_KINDS = frozenset({"image", "attached"})

_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What we take from a notification; everything else is fetched, for its body is not signed (vod-protocol 1.3)."""

    #: "" where it names none.
    event_type: str
    media_ids: tuple[str, ...]
    #: How many more it names than anybody fetches because of one notification.
    dropped: int = 0
    #: Aware UTC; None where absent or impossible.
    event_time: datetime | None
    #: "success", "fail", or VOD's own word.
    status: str | None
    #: It refers to audio or video by an id.
    wants_fetch: bool
    #: It says that the whole medium, audio or video, is deleted.
    deletes: bool
    #: The digest by which the same notification is recognised twice.
    event_key: str
    #: The received text without signatures of URLs.
    body: str


def parse(body: bytes) -> Notification:
    """Read one notification as VOD sends it (vod-protocol 2); an unknown type and one without an id are as good as any.

    Raises RejectedNotification with the reason "malformed" where the body is not a JSON object.
    """
    said, received = _load(body)
    # Some samples of VOD have names with a trailing blank.
    fields: dict[str, Any] = {}
    for name, value in said.items():
        fields.setdefault(name.strip(), value)

    event_type = storable(_text(fields, "EventType"))[:EVENT_TYPE_LENGTH]
    media_ids = _media_ids(fields, event_type)
    kind = _text(fields, _KIND_FIELD[event_type]) if event_type in _KIND_FIELD else ""
    wants_fetch = bool(media_ids) and event_type not in _OTHER_TYPES and kind.lower() not in _OTHER_KINDS
    status = _text(fields, "Status")
    status = _STATUS.get(status.lower()) or storable(status)[:STATUS_LENGTH]
    try:
        event_time = field_parsers.instant(fields.get("EventTime"))
    except field_parsers.UnreadableError:
        event_time = None
    return Notification(
        event_type=event_type,
        media_ids=media_ids[:MEDIA_IDS_LIMIT],
        dropped=max(0, len(media_ids) - MEDIA_IDS_LIMIT),
        event_time=event_time,
        status=status or None,
        wants_fetch=wants_fetch,
        # A failure means that the medium is still there (vod-protocol 2.7).
        deletes=wants_fetch
        and event_type == "DeleteMediaComplete"
        and status == "success"
        and _text(fields, "DeleteType").lower() == "all",
        event_key=_event_key(said),
        body=strip_signature(received),
    )


def parse_queued(text: str) -> Notification:
    """Read one notification as a queue holds it: the same JSON, or base64 of it (vod-protocol 3.1).

    Raises RejectedNotification with the reason "malformed" where it is neither.
    """
    text = text.strip().removeprefix("\ufeff").lstrip()
    try:
        body = text.encode() if text.startswith("{") else base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        _refuse()
    return parse(body)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""


def _media_ids(fields: dict[str, Any], event_type: str) -> tuple[str, ...]:
    named = _text(fields, "VideoId")
    if not is_valid_id(named):
        named = _text(fields, "MediaId")
        if not is_valid_id(named):
            named = _workflow_media(fields) if event_type == "WorkflowTaskComplete" else ""
    if "MediaIds" not in fields:
        return (named,) if named else ()
    listed = (part for part in _listed(fields["MediaIds"]) if is_valid_id(part))
    return tuple(dict.fromkeys([named, *listed] if named else listed))


def _workflow_media(fields: dict[str, Any]) -> str:
    task_input = fields.get("TaskInput")
    if isinstance(task_input, str):
        try:
            task_input = _decode(task_input)
        except (ValueError, RecursionError):
            return ""
    named = _text(task_input, "Media") if isinstance(task_input, dict) else ""
    return named if is_valid_id(named) else ""


def _listed(value: object) -> Iterator[str]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else ()
    return (part.strip() for part in parts if isinstance(part, str))


def _load(body: bytes) -> tuple[dict[str, Any], str]:
    try:
        received = body.decode()
        try:
            said = _decode(body)
        except (msgspec.DecodeError, UnicodeError):
            said = lenient_json.loads(received, constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse()
    if not isinstance(said, dict):
        _refuse()
    return said, received


def _refuse() -> NoReturn:
    raise NotificationRejectedError(
        "the body is not a JSON object: send one event as VOD does, in UTF-8", reason="malformed"
    ) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _event_key(said: dict[str, Any]) -> str:
    """The digest of the canonical JSON of the whole body (vod-protocol 2.10)."""
    try:
        try:
            canonical = _encode_sorted(said)
        except ValueError:
            canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:
        _refuse()
    return hashlib.sha256(canonical).hexdigest()
