"""Parse one page of the library's listing (vod-protocol 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from worker.core.field_parsers import text, utc_time
from worker.core.ids import is_valid_id

PAGE_ROWS = 100  # rows per page, the most that VOD accepts
MAX_PAGED_ROWS = 5_000  # rows that page numbers reach; further rows need a token

#: The object of a row that has the fields of the asset itself.
_INNER_OBJECTS = ("Video", "Audio")


class ListedMedia(msgspec.Struct, frozen=True):
    """One row of a page. A time is None if VOD did not send it."""

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


def read_page(answer: Mapping[str, Any]) -> Page:
    """Return the page in an answer of SearchMedia. A part of an unexpected type counts as absent."""
    elements = answer.get("MediaList")
    elements = elements if isinstance(elements, list) else []
    total = answer.get("Total")
    return Page(
        rows=tuple(row for element in elements if isinstance(element, dict) and (row := _read_row(element)) is not None),
        length=len(elements),
        total=int(total) if isinstance(total, int | float | str) and str(total).isdigit() else None,
        token=text(answer.get("ScrollToken")),
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


def _read_row(element: Mapping[str, Any]) -> ListedMedia | None:
    inner = next((part for name in _INNER_OBJECTS if isinstance(part := element.get(name), dict)), {})
    media_id = (
        text(element.get("MediaId")) or text(inner.get("VideoId")) or text(inner.get("AudioId")) or text(inner.get("MediaId"))
    )
    if media_id is None or not is_valid_id(media_id):
        return None
    return ListedMedia(
        media_id=media_id,
        created_at=utc_time(element.get("CreationTime")) or utc_time(inner.get("CreationTime")),
        modified_at=utc_time(element.get("ModificationTime")) or utc_time(inner.get("ModificationTime")),
    )
