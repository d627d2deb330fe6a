"""SearchMedia, as asked of one account: its parameters, its walls, and its answer (vod-protocol 6.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.match import parse
from worker.emulator.api.scroll import Scroll
from worker.emulator.api.search import Query, Search
from worker.emulator.api.search_fields import MediaFacts
from worker.emulator.library.clock import iso
from worker.emulator.library.links import Signer, unsigned
from worker.emulator.server.cooperative_yield import CooperativeYield

#: Fields of the Video or Audio object that are listed on request.
FIELDS = (
    *(
        "Title",
        "Description",
        "Tags",
        "Status",
        "Size",
        "Duration",
        "CateId",
        "CateName",
        "CoverURL",
        "Snapshots",
        "StorageLocation",
    ),
    *("StorageClass", "DownloadSwitch", "AppId", "ReferenceId", "MediaSource", "PreprocessStatus", "TranscodeMode", "CreationTime"),
    *("ModificationTime", "RestoreStatus", "RestoreExpiration"),
)
LARGEST_PAGE = 100
#: Rows that PageNo and PageSize reach, and the page after which even they need a token.
MAX_PAGED_ROWS = 5_000
LAST_PAGE = 200
#: Rows that a ScrollToken reaches, and how far one step may go.
END_OF_SCROLL = 2_000_000
LONGEST_STEP = 100

_SORT_KEYS = ("CreationTime", "ModificationTime")
_MOST_SORT_KEYS = 3


class Listing:
    """The answers without their RequestId.

    VOD does not say whether a walk by token sees the library as it was when it began. Here each page is cut from what there is now,
    so that rows shift when something is uploaded or deleted meanwhile.
    """

    def __init__(self, search: Search, scroll: Scroll, *, plain: bool) -> None:
        self._search = search
        self._scroll = scroll
        self._plain = plain

    async def search_media(self, parameters: Mapping[str, str], now: float) -> dict[str, Any]:
        """`now` is unix seconds. Raises Refusal."""
        kind = parameters.get("SearchType") or "video"
        if kind not in ("video", "audio", "image", "attached"):
            raise _invalid("SearchType")
        sort, descending, keys = _sort(parameters.get("SortBy") or "CreationTime:Desc")
        match = parameters.get("Match", "")
        conditions = parse(match)
        page, size = _number(parameters, "PageNo", 1), _number(parameters, "PageSize", 10)
        if size > LARGEST_PAGE:
            raise _invalid("PageSize")
        if kind not in ("video", "audio"):
            _refuse_beyond_the_wall(page, size)
            return {"Total": 0, "ScrollToken": "", "MediaList": []}
        walk = f"{kind}|{sort}|{descending}|{match}"
        self._refuse_steps(parameters.get("ScrollToken", ""), walk, page, size, keys, now)
        query = Query(kind == "video", conditions, sort, descending)
        found = await self._search.find(query, now)
        indices = found.rows((page - 1) * size, page * size, descending=descending)
        fields = [name for name in parameters.get("Fields", "").split(",") if name in FIELDS]
        sign = unsigned if self._plain else Signer(now)
        rows, turns = [], CooperativeYield()
        for index in indices:
            await turns()
            rows.append(_row(self._search.album.seen(index, found.seen_at), kind, fields, sign))
        return {"Total": found.total, "ScrollToken": self._scroll.token(walk, page * size, now), "MediaList": rows}

    def _refuse_steps(self, token: str, walk: str, page: int, size: int, keys: int, now: float) -> None:
        """Refuse pages that lie beyond what the token, or doing without one, allows."""
        if not token:
            _refuse_beyond_the_wall(page, size)
            return
        if keys > 1:
            raise ApiError("SortByExceededMax", 400, "A walk with ScrollToken is sorted by one key.")
        reached = self._scroll.reached(token, walk, now)
        if page * size > min(reached + LONGEST_STEP, END_OF_SCROLL):
            raise _invalid("PageNo")


def _row(facts: MediaFacts, kind: str, fields: Collection[str], sign: Callable[[str], str]) -> dict[str, Any]:
    """One element of MediaList; fields that the medium lacks are left out."""
    name = "Video" if kind == "video" else "Audio"
    media_id = facts.media_id
    details: dict[str, Any] = {f"{name}Id": media_id}
    for field in fields:
        value = facts.value(field)
        if field == "CoverURL" and value:
            value = sign(value)
        elif field == "Snapshots" and value:
            value = [sign(url) for url in value]
        if value is not None:
            details[field] = value
    return {"MediaId": media_id, "MediaType": kind, "CreationTime": iso(facts.created_at), name: details}


def _sort(text: str) -> tuple[str, bool, int]:
    """The first key, whether it descends, and how many keys there are. The others would only decide between media of one second."""
    keys = [key.strip() for key in text.split(",")]
    if len(keys) > _MOST_SORT_KEYS:
        raise ApiError("SortByExceededMax", 400, f"SortBy names {len(keys)} keys, {_MOST_SORT_KEYS} are allowed.")
    for key in keys:
        name, _, direction = key.partition(":")
        if name not in _SORT_KEYS or direction not in ("Asc", "Desc"):
            raise _invalid("SortBy")
    name, _, direction = keys[0].partition(":")
    return name, direction == "Desc", len(keys)


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise _invalid(name)
    return int(text)


def _refuse_beyond_the_wall(page: int, size: int) -> None:
    if page * size > MAX_PAGED_ROWS or page > LAST_PAGE:
        message = f"Pages beyond the first {MAX_PAGED_ROWS} rows, or beyond page {LAST_PAGE}, need a ScrollToken."
        raise ApiError("InvalidParameter", 400, message)


def _invalid(name: str) -> ApiError:
    return ApiError("InvalidParameter", 400, f"The specified parameter {name} is not valid.")
