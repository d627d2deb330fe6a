"""Parse and validate a message in which another program requests fetches (queue `vodsync.reprocess`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from worker.core.errors import MessageRejectedError
from worker.core.ids import is_valid_id, reference_key

MAX_MESSAGE_SIZE = 2 * 1024 * 1024  # bytes
MAX_KEYS = 10_000  # ids of one message, after duplicates are removed

_DEFAULT_REASON = "reprocess"
_MAX_REASON_LENGTH = 64  # characters, the width of the column `reason` of a sync request

# An error message quotes only a little of the message that it is about.
_MAX_QUOTED_IDS = 3
_MAX_QUOTED_LENGTH = 20  # characters of one quoted value
_MAX_DETAIL_LENGTH = 120  # characters of the JSON parser's message

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Priority = Literal["live", "manual", "backfill"]


class ReprocessRequest(msgspec.Struct, frozen=True):
    """A valid message. `keys` are media ids, and reference ids as returned by `ids.reference_key`."""

    source: str
    keys: tuple[str, ...]
    reason: str
    priority: Priority


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The documented fields. An unknown one is refused, because a misspelt field would be ignored. Null counts as absent."""

    source: str | None = None
    media_ids: list[str] | None = None
    reference_ids: list[str] | None = None
    reason: str | None = None
    priority: Priority | None = None


_decoder = msgspec.json.Decoder(_Message)


def read_message(body: bytes, *, sources: Collection[str], default: str) -> ReprocessRequest:
    """Return the request in a message for one of `sources`, or for `default` if the message names no source.

    Raises MessageRejectedError if any part of the message is invalid; a message is never carried out in part.
    """
    message = _decode(body)
    source = default if message.source is None else message.source
    if source not in sources:
        known = ", ".join(sorted(sources))
        problem = "names no source and there is none called" if message.source is None else "names the unknown source"
        raise MessageRejectedError(f"the message {problem} {_quote(source)}; known are: {known}")
    media_ids, reference_ids = message.media_ids or [], message.reference_ids or []
    _require_valid_ids(media_ids, reference_ids)
    keys = tuple(dict.fromkeys([*media_ids, *map(reference_key, reference_ids)]))
    if not keys:
        raise MessageRejectedError("the message names no media; add media_ids, reference_ids or both")
    if len(keys) > MAX_KEYS:
        raise MessageRejectedError(f"the message names {len(keys):,} media; at most {MAX_KEYS:,} fit into one, so send several")
    reason = _one_line(message.reason or "", _MAX_REASON_LENGTH) or _DEFAULT_REASON
    return ReprocessRequest(source, keys, reason, message.priority or "manual")


def is_json(body: bytes) -> bool:
    """Return whether `body` is valid JSON."""
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return False
    return True


def _decode(body: bytes) -> _Message:
    if len(body) > MAX_MESSAGE_SIZE:
        raise MessageRejectedError(f"the message has {len(body):,} bytes; at most {MAX_MESSAGE_SIZE:,} are read, so send several")
    try:
        return _decoder.decode(body.removeprefix(_BYTE_ORDER_MARK))
    except msgspec.ValidationError as error:
        detail = _one_line(str(error), _MAX_DETAIL_LENGTH)
        raise MessageRejectedError(f"the message does not have the documented form: {detail}") from None
    except (ValueError, RecursionError) as error:
        detail = _one_line(str(error), _MAX_DETAIL_LENGTH)
        raise MessageRejectedError(f"the message is not a JSON text in UTF-8: {detail}") from None


def _require_valid_ids(media_ids: Iterable[str], reference_ids: Iterable[str]) -> None:
    invalid = [
        f"{field}[{index}] = {_quote(text)}"
        for field, ids in (("media_ids", media_ids), ("reference_ids", reference_ids))
        for index, text in enumerate(ids)
        if not is_valid_id(text)
    ]
    if invalid:
        quoted = ", ".join(invalid[:_MAX_QUOTED_IDS])
        more = f" and {len(invalid) - _MAX_QUOTED_IDS:,} more" if len(invalid) > _MAX_QUOTED_IDS else ""
        raise MessageRejectedError(
            f"nothing was requested, because these ids are invalid (an id is 1 to 64 of A-Z a-z 0-9 _ -): {quoted}{more}"
        )


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED_LENGTH else text[:_MAX_QUOTED_LENGTH] + "…")


def _one_line(text: str, length: int) -> str:
    """Return the first `length` characters of `text` without line breaks and control characters, which could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length].rstrip()
