"""Answer SearchMedia: check its parameters and limits, and list a page (vod-protocol 6.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.cooperative_yield import CooperativeYield
from worker.emulator.api.match import parse
from worker.emulator.api.scroll import ScrollTokens
from worker.emulator.api.search import Query, Search
from worker.emulator.api.search_index import IndexedAsset
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.signed_urls import UrlSigner, keep_unsigned
from worker.emulator.library.timestamps import format_utc

#: Fields of the Video or Audio object that the parameter Fields can request.
LISTED_FIELDS = (
    *("Title", "Description", "Tags", "Status", "Size", "Duration", "CateId", "CateName", "CoverURL", "Snapshots"),
    *("StorageLocation", "StorageClass", "DownloadSwitch", "AppId", "ReferenceId", "MediaSource", "PreprocessStatus"),
    *("TranscodeMode", "CreationTime", "ModificationTime", "RestoreStatus", "RestoreExpiration"),
)
MAX_PAGE_SIZE = 100  # rows
#: Rows and pages that can be listed without a ScrollToken.
MAX_PAGED_ROWS = 5_000
MAX_PAGE_NUMBER = 200
#: Rows that can be listed with a ScrollToken, and rows that one step may advance.
MAX_SCROLLED_ROWS = 2_000_000
MAX_SCROLL_STEP = 100

_SORT_KEYS = ("CreationTime", "ModificationTime")
_MAX_SORT_KEYS = 3


class SortOrder(NamedTuple):
    """The first sort key, and the number of keys. Further keys could only order assets of the same second; they are ignored."""

    key: str
    descending: bool
    key_count: int


class Page(NamedTuple):
    """The page of a listing: a number from 1 and a size in rows."""

    number: int
    size: int

    @property
    def first_row(self) -> int:
        return (self.number - 1) * self.size

    @property
    def end_row(self) -> int:
        """Return the row after the last one, which is also the number of rows up to here."""
        return self.number * self.size


class Listing:
    """Makes the answers of SearchMedia, without their RequestId.

    VOD does not document whether a listing by token shows the library of its first page. The emulator cuts every page from the
    current library, so rows move when an asset is uploaded or deleted in between.
    """

    def __init__(self, search: Search, scroll_tokens: ScrollTokens, *, plain: bool) -> None:
        """`plain` leaves URLs without a signature."""
        self._search = search
        self._scroll_tokens = scroll_tokens
        self._plain = plain

    async def search_media(self, parameters: Mapping[str, str], now: float) -> JsonObject:
        """Return one page; `now` is unix seconds. Raises ApiError."""
        media_type = parameters.get("SearchType") or "video"
        if media_type not in ("video", "audio", "image", "attached"):
            raise _invalid_parameter("SearchType")
        order = _parse_sort_order(parameters.get("SortBy") or "CreationTime:Desc")
        match = parameters.get("Match", "")
        conditions = parse(match)
        page = Page(_parse_number(parameters, "PageNo", 1), _parse_number(parameters, "PageSize", 10))
        if page.size > MAX_PAGE_SIZE:
            raise _invalid_parameter("PageSize")
        if media_type not in ("video", "audio"):
            _check_without_token(page)
            return {"Total": 0, "ScrollToken": "", "MediaList": []}
        listing_key = f"{media_type}|{order.key}|{order.descending}|{match}"
        self._check_limits(parameters.get("ScrollToken", ""), listing_key, page, order, now)
        result = await self._search.find(Query(media_type == "video", conditions, order.key, order.descending), now)
        indices = result.rows(page.first_row, page.end_row, descending=order.descending)
        fields = [name for name in parameters.get("Fields", "").split(",") if name in LISTED_FIELDS]
        sign = keep_unsigned if self._plain else UrlSigner(now)
        rows: list[JsonObject] = []
        yield_to_others = CooperativeYield()
        for index in indices:
            await yield_to_others()
            rows.append(_make_row(self._search.index.asset(index, result.seen_at), media_type, fields, sign))
        token = self._scroll_tokens.make(listing_key, page.end_row, now)
        return {"Total": result.total, "ScrollToken": token, "MediaList": rows}

    def _check_limits(self, token: str, listing_key: str, page: Page, order: SortOrder, now: float) -> None:
        """Raise ApiError if the page is beyond what can be listed with this token, or without one."""
        if not token:
            _check_without_token(page)
            return
        if order.key_count > 1:
            raise ApiError("SortByExceededMax", 400, "Listing with ScrollToken is limited to one sort key.")
        rows = self._scroll_tokens.read(token, listing_key, now)
        if page.end_row > min(rows + MAX_SCROLL_STEP, MAX_SCROLLED_ROWS):
            raise _invalid_parameter("PageNo")


def _make_row(asset: IndexedAsset, media_type: str, fields: Collection[str], sign: Callable[[str], str]) -> JsonObject:
    """Return one element of MediaList, without fields that the asset does not have."""
    name = "Video" if media_type == "video" else "Audio"
    media_id = asset.media_id
    details: JsonObject = {f"{name}Id": media_id}
    for field in fields:
        value = asset.value(field)
        if field == "CoverURL" and value:
            value = sign(value)
        elif field == "Snapshots" and value:
            value = [sign(url) for url in value]
        if value is not None:
            details[field] = value
    return {"MediaId": media_id, "MediaType": media_type, "CreationTime": format_utc(asset.created_at), name: details}


def _parse_sort_order(text: str) -> SortOrder:
    keys = [key.strip() for key in text.split(",")]
    if len(keys) > _MAX_SORT_KEYS:
        raise ApiError("SortByExceededMax", 400, f"SortBy names {len(keys)} keys, {_MAX_SORT_KEYS} are allowed.")
    for key in keys:
        name, _, direction = key.partition(":")
        if name not in _SORT_KEYS or direction not in ("Asc", "Desc"):
            raise _invalid_parameter("SortBy")
    name, _, direction = keys[0].partition(":")
    return SortOrder(name, direction == "Desc", len(keys))


def _parse_number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise _invalid_parameter(name)
    return int(text)


def _check_without_token(page: Page) -> None:
    if page.end_row > MAX_PAGED_ROWS or page.number > MAX_PAGE_NUMBER:
        message = f"Pages beyond the first {MAX_PAGED_ROWS} rows, or beyond page {MAX_PAGE_NUMBER}, need a ScrollToken."
        raise ApiError("InvalidParameter", 400, message)


def _invalid_parameter(name: str) -> ApiError:
    return ApiError("InvalidParameter", 400, f"The specified parameter {name} is not valid.")
