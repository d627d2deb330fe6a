"""Parse one page of the library's listing (vod-protocol 6.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from worker.core.field_parsers import UnreadableError, integer64, text, utc_time
from worker.core.ids import is_valid_id
from worker.core.urls import clean

T = TypeVar("T")

PAGE_ROWS = 100  # rows per page, the most that VOD accepts
MAX_PAGED_ROWS = 5_000  # rows that page numbers reach; further rows need a token

#: The object of a row that has the fields of the asset itself.
_INNER_OBJECTS = ("Video", "Audio")

#: The names under which they have the id.
_INNER_IDS = ("VideoId", "AudioId", "MediaId")


class ListedMedia(msgspec.Struct, frozen=True):
    """One row of a page. A time is None if VOD did not send it, or sent something that is not a time."""

    media_id: str
    created_at: datetime | None
    modified_at: datetime | None


class Page(msgspec.Struct, frozen=True):
    """One page of SearchMedia."""

    rows: tuple[ListedMedia, ...]
    #: The number of rows that VOD sent, including those without a valid id.
    length: int
    #: The number of all rows that match the search.
    total: int | None
    #: The ScrollToken with which the next page can be requested beyond MAX_PAGED_ROWS.
    token: str | None
    #: How often each field could not be read. A row without a valid id is left out, and counts as "MediaId".
    unreadable: Mapping[str, int] = {}


def read_page(answer: Mapping[str, Any]) -> Page:
    """Return the page in an answer of SearchMedia. Never raises: a field that cannot be read counts as absent."""
    elements = answer.get("MediaList")
    elements = elements if isinstance(elements, list) else []
    unreadable: Counter[str] = Counter()
    rows = [_read_row(element, unreadable) for element in elements]
    total = _read(integer64, unreadable, "Total", answer)
    return Page(
        rows=tuple(row for row in rows if row is not None),
        length=len(elements),
        total=total if total is not None and total >= 0 else None,
        # The token is stored in the checkpoint of a job.
        token=_read(lambda value: text(clean(value)), unreadable, "ScrollToken", answer),
        unreadable=unreadable,
    )


def keep_application(app_id: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer of SearchMedia in which the rows of other applications are empty. They still count as rows of the page."""
    elements = answer.get("MediaList")
    if not isinstance(elements, list):
        return dict(answer)
    return {**answer, "MediaList": [{} if _is_of_other_application(app_id, element) else element for element in elements]}


def _is_of_other_application(app_id: str, element: Any) -> bool:
    inner = [element.get(name) for name in _INNER_OBJECTS] if isinstance(element, dict) else []
    app_ids = [part["AppId"] for part in inner if isinstance(part, dict) and isinstance(part.get("AppId"), str)]
    return any(sent.strip() not in ("", app_id) for sent in app_ids)


def _read_row(element: Any, unreadable: Counter[str]) -> ListedMedia | None:
    """Return the row; None if it has no valid id, or is an empty object, as the rows of other applications are."""
    if element == {}:
        return None
    row = element if isinstance(element, dict) else {}
    inner = next((part for name in _INNER_OBJECTS if isinstance(part := row.get(name), dict)), {})
    odd_ids: Counter[str] = Counter()
    ids = [_read(text, odd_ids, name, part) for part, name in ((row, "MediaId"), *((inner, name) for name in _INNER_IDS))]
    media_id = next((media_id for media_id in ids if media_id is not None), None)
    if media_id is None or not is_valid_id(media_id):
        unreadable["MediaId"] += 1
        return None
    return ListedMedia(
        media_id=media_id,
        created_at=_read(utc_time, unreadable, "CreationTime", row, inner),
        modified_at=_read(utc_time, unreadable, "ModificationTime", row, inner),
    )


def _read(parse: Callable[[object], T | None], unreadable: Counter[str], name: str, *parts: Mapping[str, Any]) -> T | None:
    """Return the first value of a field that can be read; None if there is none. Count a field that is there and cannot be read."""
    is_readable = True
    for part in parts:
        try:
            value = parse(part.get(name))
        except UnreadableError:
            is_readable = False
        else:
            if value is not None:
                return value
    if not is_readable:
        unreadable[name] += 1
    return None
