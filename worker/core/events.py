"""Parse VOD's event notifications (vod-protocol 2)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from worker.core import field_parsers, lenient_json
from worker.core.errors import NotificationRejectedError
from worker.core.ids import invalid_key, is_invalid_key, is_valid_id
from worker.core.urls import storable, strip_signature

MAX_EVENT_TYPE_LENGTH = 128  # characters, the width of the column in vod_notification
MAX_STATUS_LENGTH = 64  # characters, the width of the column in vod_notification

#: The most ids that are read from one notification. VOD sends one; this bounds what a forged body can cause.
MAX_MEDIA_IDS = 1000

#: The three vocabularies of Status; which one VOD uses depends on the event type (vod-protocol 2.1).
_STATUSES = {
    "success": "success",
    "succeed": "success",
    "succeeded": "success",
    "fail": "fail",
    "failed": "fail",
}

#: Event types that are never about audio or video.
_OTHER_TYPES = frozenset({"ImageUploadComplete", "AttachedMediaUploadComplete"})

#: The field in which these event types name the kind of media that they are about.
_KIND_FIELD = {"DeleteMediaComplete": "MediaType", "MediaBaseChangeComplete": "MediaType", "CreateAuditComplete": "SubType"}

#: The values of that field that are neither audio nor video.
_OTHER_KINDS = frozenset({"image", "attached"})

_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What is read from a notification. Everything else is fetched, because the body is not signed (vod-protocol 1.3)."""

    #: "" if absent.
    event_type: str
    #: Keys of sync requests: media ids, and `ids.invalid_key` of an id that VOD's API would not accept.
    media_ids: tuple[str, ...]
    #: The number of ids beyond MAX_MEDIA_IDS that were ignored.
    dropped_ids: int
    #: Aware UTC. None if absent or not a time.
    event_time: datetime | None
    #: "success", "fail", or another word as VOD sent it.
    status: str | None
    #: True if the notification names an audio or video asset by its id.
    needs_fetch: bool
    #: True if the whole audio or video asset was deleted.
    is_deletion: bool
    #: A digest of the content. Deliveries of the same notification have the same key.
    event_key: str
    #: The received text, without the signatures of URLs.
    body: str


def parse(body: bytes) -> Notification:
    """Return the notification in the body of a callback (vod-protocol 2). Unknown types and a missing id are accepted.

    Raises NotificationRejectedError with the reason "malformed" if the body is not a JSON object in UTF-8.
    """
    document, received = _load(body)
    # Some of VOD's samples have field names with a trailing space (vod-protocol 2.1).
    fields: dict[str, Any] = {}
    for name, value in document.items():
        fields.setdefault(name.strip(), value)

    event_type = storable(_text(fields, "EventType"))[:MAX_EVENT_TYPE_LENGTH]
    media_ids = _media_ids(fields, event_type)
    kind = _text(fields, _KIND_FIELD[event_type]) if event_type in _KIND_FIELD else ""
    is_about_media = event_type not in _OTHER_TYPES and kind.lower() not in _OTHER_KINDS
    if not is_about_media:
        media_ids = tuple(media_id for media_id in media_ids if not is_invalid_key(media_id))
    needs_fetch = is_about_media and bool(media_ids)
    status = _text(fields, "Status")
    status = _STATUSES.get(status.lower()) or storable(status)[:MAX_STATUS_LENGTH]
    try:
        event_time = field_parsers.utc_time(fields.get("EventTime"))
    except field_parsers.UnreadableError:
        event_time = None
    return Notification(
        event_type=event_type,
        media_ids=media_ids[:MAX_MEDIA_IDS],
        dropped_ids=max(0, len(media_ids) - MAX_MEDIA_IDS),
        event_time=event_time,
        status=status or None,
        needs_fetch=needs_fetch,
        # After a failed deletion the asset still exists (vod-protocol 2.7).
        is_deletion=needs_fetch
        and event_type == "DeleteMediaComplete"
        and status == "success"
        and _text(fields, "DeleteType").lower() == "all",
        event_key=_event_key(document),
        body=strip_signature(received),
    )


def parse_queued(text: str) -> Notification:
    """Return the notification in a message of the SMQ queue, which is the same JSON or base64 of it (vod-protocol 3.1).

    Raises NotificationRejectedError with the reason "malformed" if it is neither.
    """
    text = text.strip().removeprefix("\ufeff").lstrip()
    try:
        body = text.encode() if text.startswith("{") else base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        _reject()
    return parse(body)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""


def _media_ids(fields: dict[str, Any], event_type: str) -> tuple[str, ...]:
    """Return the first valid one of VideoId, MediaId and a workflow's input, then those of MediaIds (vod-protocol 2.2).

    If none of the first three is valid, the first one that is present is returned as an invalid key. So are those of MediaIds that
    are not valid.
    """
    named = [_key(fields.get("VideoId")), _key(fields.get("MediaId"))]
    if event_type == "WorkflowTaskComplete":
        named.append(_key(_workflow_media(fields)))
    media_id = next((key for key in named if is_valid_id(key)), "") or next(filter(None, named), "")
    if "MediaIds" not in fields:
        return (media_id,) if media_id else ()
    return tuple(dict.fromkeys(filter(None, [media_id, *map(_key, _list_items(fields["MediaIds"]))])))


def _key(value: object) -> str:
    """Return the key of the sync request for an id in a notification, "" if there is none."""
    if not isinstance(value, str):
        # The value may be large.
        return invalid_key(f"({type(value).__name__})") if value else ""
    text = value.strip()
    return text if not text or is_valid_id(text) else invalid_key(text)


def _workflow_media(fields: dict[str, Any]) -> object:
    task_input = fields.get("TaskInput")
    if isinstance(task_input, str):
        try:
            task_input = _decode(task_input)
        except (ValueError, RecursionError):
            return None
    return task_input.get("Media") if isinstance(task_input, dict) else None


def _list_items(value: object) -> Iterable[object]:
    return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else ()


def _load(body: bytes) -> tuple[dict[str, Any], str]:
    """Return the body as a JSON object and as text."""
    try:
        received = body.decode()
        try:
            document = _decode(body)
        except (msgspec.DecodeError, UnicodeError):
            document = lenient_json.loads(received, constant=_refuse_constant)
    except (ValueError, RecursionError):
        _reject()
    if not isinstance(document, dict):
        _reject()
    return document, received


def _reject() -> NoReturn:
    raise NotificationRejectedError(
        "the body is not a JSON object: send one event as VOD does, in UTF-8", reason="malformed"
    ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _event_key(document: dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of the whole body (vod-protocol 2.10)."""
    try:
        try:
            canonical = _encode_sorted(document)
        except ValueError:
            canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:
        _reject()
    return hashlib.sha256(canonical).hexdigest()
