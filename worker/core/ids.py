"""Which texts are ids, and how a reference id (the customer's own id of a medium) travels until its media id is known.

Only an answer of VOD tells which medium a reference id belongs to (vod-protocol 7.18). Until then the sync request carries
the reference id behind a prefix that no media id can begin with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIX = "ref:"

# VOD promises neither length nor alphabet; this is what every id seen fits into (vod-protocol 2.1).
_USABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_valid_id(text: str) -> bool:
    """Whether `text` can be asked for: a comma or a blank in it would turn one id into several."""
    return _USABLE.fullmatch(text) is not None


def reference_key(reference_id: str) -> str:
    """The reference id as it stands where otherwise a media id stands."""
    return _PREFIX + reference_id


def split(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Media ids and reference ids (without prefix) of a mixed list."""
    media_ids: list[str] = []
    reference_ids: list[str] = []
    for each in keys:
        if each.startswith(_PREFIX):
            reference_ids.append(each.removeprefix(_PREFIX))
        else:
            media_ids.append(each)
    return media_ids, reference_ids
