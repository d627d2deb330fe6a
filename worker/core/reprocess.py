"""What another program asks for: a message that names media, read whole or refused with a reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from worker.core.errors import MessageRejectedError
from worker.core.ids import is_valid_id, reference_key

#: Bounds of one message: bytes, and media after repeated ones are left out.
LONGEST, MOST = 2 * 1024 * 1024, 10_000

#: What the column `reason` of a sync request holds, and what stands there where the message gives none.
_REASON_LENGTH, _REASON = 64, "reprocess"

#: Of what the message says, this much is repeated in a refusal: ids that are none, characters of each, characters of the whole.
_NAMED, _SHOWN, _SENTENCE = 3, 20, 120

_BOM = b"\xef\xbb\xbf"

Priority = Literal["live", "manual", "backfill"]


class ReprocessRequest(msgspec.Struct, frozen=True):
    """Please fetch these again. `keys` are media ids, and reference ids as `ids.reference_key` writes them."""

    source: str
    keys: tuple[str, ...]
    reason: str
    priority: Priority


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that is misspelt would otherwise be an order that nobody carries out. Null is the same as left out."""

    source: str | None = None
    media_ids: list[str] | None = None
    reference_ids: list[str] | None = None
    reason: str | None = None
    priority: Priority | None = None


def read(body: bytes, *, sources: Collection[str], default: str) -> ReprocessRequest:
    """All that the message asks for, of one of `sources`; of `default` where it names none.

    Raises RejectedMessage: one id that is none, and nothing of the message counts.
    """
    said = _decode(body)
    source = default if said.source is None else said.source
    if source not in sources:
        known = ", ".join(sorted(sources))
        where = "names no source and there is none called" if said.source is None else "names the unknown source"
        raise MessageRejectedError(f"the message {where} {_shown(source)}; known are: {known}")
    media_ids, reference_ids = said.media_ids or [], said.reference_ids or []
    _require_ids(media_ids, reference_ids)
    keys = tuple(dict.fromkeys([*media_ids, *map(reference_key, reference_ids)]))
    if not keys:
        raise MessageRejectedError("the message names no media; give media_ids, reference_ids or both")
    if len(keys) > MOST:
        raise MessageRejectedError(f"the message names {len(keys):,} media; at most {MOST:,} fit into one, so send several")
    return ReprocessRequest(source, keys, _one_line(said.reason or "", _REASON_LENGTH) or _REASON, said.priority or "manual")


def is_json(body: bytes) -> bool:
    """Whether anybody's JSON reader takes it."""
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return False
    return True


def _decode(body: bytes) -> _Message:
    if len(body) > LONGEST:
        raise MessageRejectedError(f"the message has {len(body):,} bytes; at most {LONGEST:,} are read, so send several")
    try:
        return _MESSAGE.decode(body.removeprefix(_BOM))
    except msgspec.ValidationError as error:
        raise MessageRejectedError(f"the message does not have the documented form: {_one_line(str(error), _SENTENCE)}") from None
    except (ValueError, RecursionError) as error:
        raise MessageRejectedError(f"the message is not a JSON text in UTF-8: {_one_line(str(error), _SENTENCE)}") from None


_MESSAGE = msgspec.json.Decoder(_Message)


def _require_ids(media_ids: Iterable[str], reference_ids: Iterable[str]) -> None:
    bad = [
        f"{name}[{index}] = {_shown(each)}"
        for name, ids in (("media_ids", media_ids), ("reference_ids", reference_ids))
        for index, each in enumerate(ids)
        if not is_valid_id(each)
    ]
    if bad:
        named = ", ".join(bad[:_NAMED]) + (f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else "")
        raise MessageRejectedError(f"nothing was requested: not an id (1 to 64 of A-Z a-z 0-9 _ -) is {named}")


def _shown(said: str) -> str:
    return repr(said if len(said) <= _SHOWN else said[:_SHOWN] + "…")


def _one_line(text: str, length: int) -> str:
    """Without what would break a line, steer a terminal or not fit into a column."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length].rstrip()
