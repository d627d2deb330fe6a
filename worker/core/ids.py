"""Validate ids, and carry reference ids in the same lists as media ids.

A reference id is the customer's own id of an asset. Only an answer of VOD contains the media id that belongs to it
(vod-protocol 7.18). Until then the sync request has the reference id as its key, behind a prefix with which no media id begins.

A notification may name an id that VOD's API would not accept. It becomes a sync request too, behind another prefix, and then a dead
letter: the notification was answered with 200, so it must not vanish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_REFERENCE_PREFIX = "ref:"
_INVALID_PREFIX = "invalid:"

MAX_INVALID_LENGTH = 100  # characters of an invalid id that are kept

#: Everything but visible ASCII, and the comma. Such a key is safe in every database, log and terminal, and is never several ids.
_UNSAFE = re.compile(r"[^!-~]|,")

# VOD promises neither the length nor the alphabet of an id. All ids that we saw match this (vod-protocol 2.1).
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_valid_id(text: str) -> bool:
    """Return whether `text` can be sent to VOD as one id. A comma or a space in it would make several ids of it."""
    return _VALID_ID.fullmatch(text) is not None


def reference_key(reference_id: str) -> str:
    """Return the key that a sync request has while only its reference id is known."""
    return _REFERENCE_PREFIX + reference_id


def invalid_key(text: str) -> str:
    """Return the key of the sync request for an id that is not valid."""
    return _INVALID_PREFIX + _UNSAFE.sub("?", text[:MAX_INVALID_LENGTH])


def is_invalid_key(key: str) -> bool:
    return key.startswith(_INVALID_PREFIX)


def split_keys(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the media ids and the reference ids (without their prefix) among the keys of sync requests."""
    media_ids: list[str] = []
    reference_ids: list[str] = []
    for key in keys:
        if key.startswith(_REFERENCE_PREFIX):
            reference_ids.append(key.removeprefix(_REFERENCE_PREFIX))
        else:
            media_ids.append(key)
    return media_ids, reference_ids
