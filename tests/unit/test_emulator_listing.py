"""SearchMedia lists all assets, in order, within its limits of paging."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.faults import FaultInjector, Faults
from worker.emulator.api.listing import Listing
from worker.emulator.api.scroll import ScrollTokens
from worker.emulator.api.search import Search
from worker.emulator.library.library import Library
from worker.emulator.library.timestamps import format_utc
from worker.emulator.server.config import EmulatorConfig

NOW = 1_764_000_000.0
EVERYTHING = {"PageSize": "100", "SortBy": "CreationTime:Asc"}
Answer = dict[str, Any]


class SearchApi:
    """A library with its listing; `lifetime` is that of a ScrollToken."""

    def __init__(self, existing: int = 60, *, plain: bool = True, lifetime: float = 600) -> None:
        self.library = Library(seed=1, existing=existing, quirks=not plain)
        self.injector = FaultInjector(seed=1)
        self._listing = Listing(Search(self.library, self.injector), ScrollTokens(1, lifetime), plain=plain)

    def search(self, now: float = NOW, **parameters: Any) -> Answer:
        parameters_as_text = {name: str(value) for name, value in parameters.items()}
        return asyncio.run(self._listing.search_media(parameters_as_text, now))

    def everything(self, now: float = NOW, **parameters: Any) -> list[str]:
        """Video and audio together, the oldest first."""
        listed = [row for kind in ("video", "audio") for row in rows(self, now, SearchType=kind, **parameters)]
        return [row["MediaId"] for row in sorted(listed, key=lambda row: self.library.index(row["MediaId"]) or 0)]

    def ids(self, *indices: int) -> list[str]:
        return [self.library.ids.media_id(index) for index in indices]

    def refused(self, now: float = NOW, **parameters: Any) -> tuple[str, int]:
        with pytest.raises(ApiError) as refused:
            self.search(now, **parameters)
        return refused.value.code, refused.value.status


def rows(api: SearchApi, now: float = NOW, **parameters: Any) -> list[Answer]:
    """Return all pages of a listing that page numbers reach."""
    listed: list[Answer] = []
    for page in range(1, 51):
        answer = api.search(now, **(EVERYTHING | parameters), PageNo=page)
        listed += answer["MediaList"]
        if len(listed) >= answer["Total"]:
            break
    return listed


def ids(listed: list[Answer]) -> list[str]:
    return [row["MediaId"] for row in listed]


def info(api: SearchApi, media_id: str, now: float = NOW) -> Answer:
    index = api.library.index(media_id)
    assert index is not None
    found: Answer = api.library.element(index, now)["MediaInfo"]
    return found


def test_a_listing_has_the_basic_fields_and_the_requested_ones() -> None:
    api = SearchApi()

    plain = api.search(SearchType="video")["MediaList"][0]
    rich = api.search(SearchType="video", Fields="Title,Status,Size,Duration,Snapshots,ModificationTime,Colour")["MediaList"][0]

    assert set(plain) == {"MediaId", "MediaType", "CreationTime", "Video"}
    assert plain["Video"] == {"VideoId": plain["MediaId"]}
    assert set(rich["Video"]) <= {"VideoId", "Title", "Status", "Size", "Duration", "Snapshots", "ModificationTime"}
    assert {"Title", "Status", "ModificationTime"} <= set(rich["Video"])


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_listed_fields_equal_those_of_the_other_operations(kind: str) -> None:
    api = SearchApi(300)
    same = ("Title", "Description", "Tags", "CateId", "StorageClass", "Status", "CreationTime", "ModificationTime", "ReferenceId")

    listed = rows(api, SearchType=kind, Fields=",".join((*same, "Size", "Duration", "CoverURL", "Snapshots")))

    assert len(listed) > 30
    for row in listed:
        details = row[kind.capitalize()]
        element = api.library.element(api.library.index(row["MediaId"]) or 0, NOW)
        for name in (*same, "CoverURL", "Snapshots"):
            assert details.get(name) == element["MediaInfo"].get(name)
        assert details.get("Size") == element["MezzanineInfo"].get("Size")
        assert details.get("Duration") == (float(text) if (text := element["MezzanineInfo"].get("Duration")) else None)
        assert row["CreationTime"] == element["MediaInfo"]["CreationTime"]
        assert row["MediaType"] == kind


def test_video_and_audio_are_listed_separately_and_make_the_whole_library() -> None:
    api = SearchApi(1200)

    videos, audios = (ids(rows(api, SearchType=kind)) for kind in ("video", "audio"))

    assert {api.library.outline(api.library.index(video) or 0).is_video for video in videos} == {True}
    assert {api.library.outline(api.library.index(audio) or 0).is_video for audio in audios} == {False}
    assert sorted(videos + audios) == sorted(api.ids(*range(1200)))
    assert api.search()["Total"] == len(videos)


@pytest.mark.parametrize("kind", ["image", "attached"])
def test_there_are_no_images_and_no_attached_media(kind: str) -> None:
    answer = SearchApi().search(SearchType=kind)

    assert (answer["Total"], answer["MediaList"]) == (0, [])


def test_the_newest_ten_come_first_by_default() -> None:
    api = SearchApi()
    oldest_first = ids(rows(api))

    assert ids(api.search()["MediaList"]) == oldest_first[::-1][:10]
    assert ids(api.search(PageNo=2, PageSize=7)["MediaList"]) == oldest_first[::-1][7:14]
    assert ids(api.search(SortBy="ModificationTime:Asc")["MediaList"]) == oldest_first[:10]
    assert ids(api.search(SortBy="CreationTime:Asc,ModificationTime:Desc,ModificationTime:Asc")["MediaList"]) == oldest_first[:10]
    assert api.search(PageNo=10)["MediaList"] == []


def test_uploads_are_listed_once_they_are_announced() -> None:
    api = SearchApi()
    upload = api.library.add(40, now=NOW, life_seconds=10)

    before = api.everything(NOW - 1)
    after = api.everything(NOW)

    assert before == api.ids(*range(60))
    assert after == api.ids(*range(100))
    assert ids(api.search(NOW + 1, PageSize=1)["MediaList"]) == [
        next(media_id for media_id in reversed(after) if api.library.outline(api.library.index(media_id) or 0).is_video)
    ]
    assert upload.first == 60


def test_a_window_of_creation_times_lists_what_was_created_in_it() -> None:
    api = SearchApi(300)
    api.library.add(10, now=NOW, life_seconds=0)
    times = {media_id: info(api, media_id)["CreationTime"] for media_id in api.everything()}
    low, high = times[api.ids(100)[0]], times[api.ids(140)[0]]

    closed = api.everything(Match=f"CreationTime = ['{low}','{high}']")
    opened = api.everything(Match=f"CreationTime = ('{low}','{high}')")
    since = api.everything(Match=f"CreationTime = ('{low}',)")
    until = api.everything(Match=f"CreationTime = [,'{high}']")
    both = api.everything(Match=f"CreationTime = ['{low}',] and CreationTime = [,'{high}']")
    none = api.everything(Match=f"CreationTime = ['{high}','{low}']")

    assert closed == both == api.ids(*range(100, 141))
    assert opened == api.ids(*range(101, 140))
    assert since == api.ids(*range(101, 310))
    assert until == api.ids(*range(141))
    assert none == []


def test_a_filter_lists_only_the_assets_that_match() -> None:
    api = SearchApi(1100)
    api.library.add(50, now=NOW - 100, life_seconds=10)
    api.library.add(50, now=NOW - 5, life_seconds=10)
    for index in (7, 600, 1110, 1190):
        api.library.change(index, {"Title": "Renamed", "Status": "Blocked"}, NOW - 3)
    known = {media_id: info(api, media_id) for media_id in api.everything()}
    middle = known[api.ids(500)[0]]["ModificationTime"]

    def expected(holds: Any) -> list[str]:
        return [media_id for media_id in known if holds(known[media_id])]

    for match, holds in (
        ("Status = 'Blocked'", lambda media: media["Status"] == "Blocked"),
        ("Status in ('Uploading','Transcoding')", lambda media: media["Status"] in ("Uploading", "Transcoding")),
        ("Title = 'RENAMED'", lambda media: media["Title"] == "Renamed"),
        ("CateId = '12'", lambda media: media["CateId"] == 12),
        (f"ModificationTime = ['{middle}',]", lambda media: media["ModificationTime"] >= middle),
        (f"ModificationTime = (,'{middle}')", lambda media: media["ModificationTime"] < middle),
        (f"ModificationTime = ['{format_utc(NOW - 4)}',]", lambda media: media["ModificationTime"] >= format_utc(NOW - 4)),
        (
            f"(Status = 'Blocked' or CateId = '12') and CreationTime = ['{middle}',]",
            lambda media: (media["Status"] == "Blocked" or media["CateId"] == 12) and media["CreationTime"] >= middle,
        ),
    ):
        assert api.everything(Match=match) == expected(holds)
        assert api.everything(Match=match) == expected(holds)


def test_media_are_found_by_their_ids() -> None:
    api = SearchApi()
    wanted = api.ids(3, 40, 41)
    listed = ",".join(f"'{media_id}'" for media_id in [*wanted, "nobody"])

    assert api.everything(Match=f"MediaId in ({listed})") == wanted
    assert api.everything(Match=f"MediaId = '{wanted[0]}'") == wanted[:1]
    assert api.everything(Match=f"MediaId in ({listed}) and Title = 'no such title'") == []


def test_the_order_of_modification_follows_manual_changes() -> None:
    api = SearchApi(40)
    api.library.add(10, now=NOW - 50, life_seconds=10)
    api.library.change(20, {"Title": "Late"}, NOW - 45)
    api.library.change(10, {"Title": "Latest"}, NOW - 1)

    for kind in ("video", "audio"):
        ascending = ids(rows(api, SearchType=kind, SortBy="ModificationTime:Asc"))
        descending = ids(rows(api, SearchType=kind, SortBy="ModificationTime:Desc"))
        times = [info(api, media_id)["ModificationTime"] for media_id in ascending]
        assert times == sorted(times)
        assert descending == ascending[::-1]
        assert sorted(ascending) == sorted(ids(rows(api, SearchType=kind)))


def test_deleted_assets_are_in_no_listing() -> None:
    api = SearchApi()
    api.everything()
    gone = api.ids(0, 30, 59)

    for index in (0, 30, 59):
        api.library.delete(index, NOW)
    api.library.delete(31, NOW, file_only=True)

    left = [media_id for media_id in api.ids(*range(60)) if media_id not in gone]
    assert api.everything() == left
    assert set(api.everything(SortBy="ModificationTime:Desc")) == set(left)
    assert api.everything(Match=f"MediaId = '{gone[0]}'") == []
    assert sum(api.search(SearchType=kind)["Total"] for kind in ("video", "audio")) == 57


def test_assets_that_other_operations_do_not_return_are_not_listed() -> None:
    api = SearchApi()
    api.injector.set(Faults(gone=set(api.ids(5)), late={api.ids(6)[0]: 30}), now=NOW)

    assert api.everything(NOW + 29) == api.ids(*range(5), *range(7, 60))
    assert api.everything(NOW + 30) == api.ids(*range(5), *range(6, 60))


def test_a_search_index_with_a_delay_lists_an_earlier_state() -> None:
    api = SearchApi()
    api.library.add(1, now=NOW, life_seconds=0)
    api.library.delete(3, NOW)
    api.library.change(4, {"Title": "Renamed"}, NOW - 100)
    api.library.change(4, {"Title": "Renamed again"}, NOW)
    api.injector.set(Faults(search_lag_seconds=30))

    assert api.everything(NOW + 29) == api.ids(*range(60))
    assert api.everything(NOW + 30) == api.ids(*range(3), *range(4, 61))
    assert api.everything(NOW + 29, Match="Title = 'renamed again'") == []
    assert api.everything(NOW + 29, Match="Title = 'renamed'") == api.ids(4)
    assert api.everything(NOW + 30, Match="Title = 'renamed again'") == api.ids(4)


def test_pages_beyond_five_thousand_rows_need_a_token() -> None:
    api = SearchApi(6000)

    assert len(api.search(PageNo=50, PageSize=100)["MediaList"]) == 100
    assert api.search(PageNo=50, PageSize=100)["Total"] > 5000
    assert api.refused(PageNo=51, PageSize=100) == ("InvalidParameter", 400)
    assert api.refused(PageNo=201, PageSize=10) == ("InvalidParameter", 400)
    assert api.refused(SearchType="image", PageNo=51, PageSize=100) == ("InvalidParameter", 400)


def test_paging_by_token_reaches_every_row_once() -> None:
    api = SearchApi(6500)
    token, page, walked = "", 1, list[str]()

    while True:
        answer = api.search(SortBy="CreationTime:Asc", PageNo=page, PageSize=100, ScrollToken=token)
        if not answer["MediaList"]:
            break
        walked += ids(answer["MediaList"])
        token, page = answer["ScrollToken"], page + 1
        assert len(token) == 32

    assert len(walked) == answer["Total"] > 5000
    assert walked == [
        media_id for media_id in api.ids(*range(6500)) if api.library.outline(api.library.index(media_id) or 0).is_video
    ]


def test_a_token_is_valid_for_one_page_of_its_search() -> None:
    api = SearchApi(500)
    token = api.search(PageSize=50)["ScrollToken"]

    assert len(api.search(PageNo=3, PageSize=50, ScrollToken=token)["MediaList"]) == 50
    assert api.refused(PageNo=4, PageSize=50, ScrollToken=token) == ("InvalidParameter", 400)
    other_searches: list[dict[str, Any]] = [{"SearchType": "audio"}, {"Match": "Status = 'Normal'"}, {"SortBy": "CreationTime:Asc"}]
    for search in other_searches:
        assert api.refused(PageNo=2, PageSize=50, ScrollToken=token, **search) == ("InvalidParameter", 400)
    for foreign in ("0" * 32, "nonsense", token[::-1]):
        assert api.refused(PageNo=2, PageSize=50, ScrollToken=foreign) == ("InvalidParameter", 400)
    by_two = api.search(SortBy="CreationTime:Desc,ModificationTime:Asc")["ScrollToken"]
    keys = "CreationTime:Desc,ModificationTime:Asc"
    assert api.refused(PageNo=2, ScrollToken=by_two, SortBy=keys) == ("SortByExceededMax", 400)


def test_a_token_ends_at_two_million_rows_and_after_its_lifetime() -> None:
    api = SearchApi(lifetime=60)
    scroll = ScrollTokens(1, 60)
    last = scroll.make("video|CreationTime|True|", 1_999_900, NOW)

    assert api.search(NOW + 60, PageNo=20_000, PageSize=100, ScrollToken=last)["MediaList"] == []
    assert api.refused(PageNo=20_001, PageSize=100, ScrollToken=last) == ("InvalidParameter", 400)
    assert api.refused(NOW + 60.1, PageNo=2, ScrollToken=last) == ("InvalidScrollToken.Expired", 400)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"SearchType": "film"}, "InvalidParameter"),
        ({"PageSize": 101}, "InvalidParameter"),
        ({"PageSize": 0}, "InvalidParameter"),
        ({"PageNo": 0}, "InvalidParameter"),
        ({"PageNo": "two"}, "InvalidParameter"),
        ({"SortBy": "Colour:Asc"}, "InvalidParameter"),
        ({"SortBy": "CreationTime:Up"}, "InvalidParameter"),
        ({"SortBy": "CreationTime"}, "InvalidParameter"),
        ({"SortBy": ",".join(["CreationTime:Asc"] * 4)}, "SortByExceededMax"),
        ({"Match": "Status = Normal"}, "ErrorMatchSyntax"),
        ({"SearchType": "image", "Match": "Status = Normal"}, "ErrorMatchSyntax"),
    ],
)
def test_an_invalid_search_is_refused(parameters: dict[str, Any], code: str) -> None:
    assert SearchApi().refused(**parameters) == (code, 400)


def test_urls_in_a_listing_are_signed_unless_quirks_are_off() -> None:
    listed = rows(SearchApi(plain=False), Fields="CoverURL")

    assert any("auth_key=" in row["Video"].get("CoverURL", "") for row in listed)


def test_searches_have_a_rate_limit_of_their_own() -> None:
    assert EmulatorConfig().search_qps == 50
