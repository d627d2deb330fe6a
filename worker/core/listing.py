"""One page of the library's listing: which media there are, when they came and when they changed (vod-protocol 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from worker.core.field_parsers import instant, text
from worker.core.ids import is_valid_id

#: Rows of a page, and rows that can be reached by page numbers alone.
PAGE_ROWS, MAX_PAGED_ROWS = 100, 5_000


class ListedMedia(msgspec.Struct, frozen=True):
    """A row. Times are None where VOD did not say them."""

    media_id: str
    created_at: datetime | None
    modified_at: datetime | None


class Page(msgspec.Struct, frozen=True):
    """`total` counts all rows that match, `token` leads on behind the wall; `length` counts rows, those without a usable id too."""

    rows: tuple[ListedMedia, ...]
    length: int
    total: int | None
    token: str | None


def read_page(answer: Mapping[str, Any]) -> Page:
    """What `SearchMedia` answered, whatever shape its parts have."""
    elements = answer.get("MediaList")
    elements = elements if isinstance(elements, list) else []
    total = answer.get("Total")
    return Page(
        rows=tuple(row for element in elements if isinstance(element, dict) and (row := _read(element)) is not None),
        length=len(elements),
        total=int(total) if isinstance(total, int | float | str) and str(total).isdigit() else None,
        token=text(answer.get("ScrollToken")),
    )


def only_of(application: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with nothing in the rows that belong to another application; they still count as rows of the page."""
    elements = answer.get("MediaList")
    if not isinstance(elements, list):
        return dict(answer)
    return {**answer, "MediaList": [{} if _is_of_another(application, element) else element for element in elements]}


def _is_of_another(application: str, element: Any) -> bool:
    inner = [element.get(name) for name in ("Video", "Audio")] if isinstance(element, dict) else []
    said = [part["AppId"] for part in inner if isinstance(part, dict) and isinstance(part.get("AppId"), str)]
    return any(each.strip() not in ("", application) for each in said)


def _read(element: Mapping[str, Any]) -> ListedMedia | None:
    inner = next((part for name in ("Video", "Audio") if isinstance(part := element.get(name), dict)), {})
    media_id = (
        text(element.get("MediaId")) or text(inner.get("VideoId")) or text(inner.get("AudioId")) or text(inner.get("MediaId"))
    )
    if media_id is None or not is_valid_id(media_id):
        return None
    return ListedMedia(
        media_id=media_id,
        created_at=instant(element.get("CreationTime")) or instant(inner.get("CreationTime")),
        modified_at=instant(element.get("ModificationTime")) or instant(inner.get("ModificationTime")),
    )
