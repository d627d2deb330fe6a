"""Does SearchMedia list what there is, in order, as far as its walls allow?"""

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


class Desk:
    """A library with its listing; `lifetime` is that of a ScrollToken."""

    def __init__(self, existing: int = 60, *, plain: bool = True, lifetime: float = 600) -> None:
        self.library = Library(seed=1, existing=existing, quirks=not plain)
        self.injector = FaultInjector(seed=1)
        self._listing = Listing(Search(self.library, self.injector), ScrollTokens(1, lifetime), plain=plain)

    def search(self, now: float = NOW, **parameters: Any) -> Answer:
        asked = {name: str(value) for name, value in parameters.items()}
        return asyncio.run(self._listing.search_media(asked, now))

    def everything(self, now: float = NOW, **parameters: Any) -> list[str]:
        """Video and audio together, oldest first."""
        found = [row for kind in ("video", "audio") for row in rows(self, now, SearchType=kind, **parameters)]
        return [row["MediaId"] for row in sorted(found, key=lambda row: self.library.index(row["MediaId"]) or 0)]

    def ids(self, *indices: int) -> list[str]:
        return [self.library.ids.media_id(index) for index in indices]

    def refused(self, now: float = NOW, **parameters: Any) -> tuple[str, int]:
        with pytest.raises(ApiError) as refused:
            self.search(now, **parameters)
        return refused.value.code, refused.value.status


def rows(desk: Desk, now: float = NOW, **parameters: Any) -> list[Answer]:
    """All pages of a listing within its first wall."""
    listed: list[Answer] = []
    for page in range(1, 51):
        answer = desk.search(now, **(EVERYTHING | parameters), PageNo=page)
        listed += answer["MediaList"]
        if len(listed) >= answer["Total"]:
            break
    return listed


def ids(listed: list[Answer]) -> list[str]:
    return [row["MediaId"] for row in listed]


def info(desk: Desk, media_id: str, now: float = NOW) -> Answer:
    index = desk.library.index(media_id)
    assert index is not None
    found: Answer = desk.library.element(index, now)["MediaInfo"]
    return found


def test_a_listing_holds_the_basics_and_the_fields_that_were_asked_for() -> None:
    desk = Desk()

    plain = desk.search(SearchType="video")["MediaList"][0]
    rich = desk.search(SearchType="video", Fields="Title,Status,Size,Duration,Snapshots,ModificationTime,Colour")["MediaList"][0]

    assert set(plain) == {"MediaId", "MediaType", "CreationTime", "Video"}
    assert plain["Video"] == {"VideoId": plain["MediaId"]}
    assert set(rich["Video"]) <= {"VideoId", "Title", "Status", "Size", "Duration", "Snapshots", "ModificationTime"}
    assert {"Title", "Status", "ModificationTime"} <= set(rich["Video"])


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_what_is_listed_is_what_the_rest_of_the_api_says(kind: str) -> None:
    desk = Desk(300)
    same = ("Title", "Description", "Tags", "CateId", "StorageClass", "Status", "CreationTime", "ModificationTime", "ReferenceId")

    listed = rows(desk, SearchType=kind, Fields=",".join((*same, "Size", "Duration", "CoverURL", "Snapshots")))

    assert len(listed) > 30
    for row in listed:
        details = row[kind.capitalize()]
        element = desk.library.element(desk.library.index(row["MediaId"]) or 0, NOW)
        for name in (*same, "CoverURL", "Snapshots"):
            assert details.get(name) == element["MediaInfo"].get(name)
        assert details.get("Size") == element["MezzanineInfo"].get("Size")
        assert details.get("Duration") == (float(text) if (text := element["MezzanineInfo"].get("Duration")) else None)
        assert row["CreationTime"] == element["MediaInfo"]["CreationTime"]
        assert row["MediaType"] == kind


def test_video_and_audio_are_listed_apart_and_make_the_whole_library() -> None:
    desk = Desk(1200)

    videos, audios = (ids(rows(desk, SearchType=kind)) for kind in ("video", "audio"))

    assert {desk.library.outline(desk.library.index(video) or 0).is_video for video in videos} == {True}
    assert {desk.library.outline(desk.library.index(audio) or 0).is_video for audio in audios} == {False}
    assert sorted(videos + audios) == sorted(desk.ids(*range(1200)))
    assert desk.search()["Total"] == len(videos)


@pytest.mark.parametrize("kind", ["image", "attached"])
def test_there_are_no_images_and_no_attached_media(kind: str) -> None:
    answer = Desk().search(SearchType=kind)

    assert (answer["Total"], answer["MediaList"]) == (0, [])


def test_the_newest_ten_come_first_unless_asked_otherwise() -> None:
    desk = Desk()
    oldest_first = ids(rows(desk))

    assert ids(desk.search()["MediaList"]) == oldest_first[::-1][:10]
    assert ids(desk.search(PageNo=2, PageSize=7)["MediaList"]) == oldest_first[::-1][7:14]
    assert ids(desk.search(SortBy="ModificationTime:Asc")["MediaList"]) == oldest_first[:10]
    assert ids(desk.search(SortBy="CreationTime:Asc,ModificationTime:Desc,ModificationTime:Asc")["MediaList"]) == oldest_first[:10]
    assert desk.search(PageNo=10)["MediaList"] == []


def test_uploads_are_listed_once_they_are_announced() -> None:
    desk = Desk()
    upload = desk.library.add(40, now=NOW, life_seconds=10)

    before = desk.everything(NOW - 1)
    after = desk.everything(NOW)

    assert before == desk.ids(*range(60))
    assert after == desk.ids(*range(100))
    assert ids(desk.search(NOW + 1, PageSize=1)["MediaList"]) == [
        next(media_id for media_id in reversed(after) if desk.library.outline(desk.library.index(media_id) or 0).is_video)
    ]
    assert upload.first == 60


def test_a_window_of_creation_times_lists_what_was_created_in_it() -> None:
    desk = Desk(300)
    desk.library.add(10, now=NOW, life_seconds=0)
    times = {media_id: info(desk, media_id)["CreationTime"] for media_id in desk.everything()}
    low, high = times[desk.ids(100)[0]], times[desk.ids(140)[0]]

    closed = desk.everything(Match=f"CreationTime = ['{low}','{high}']")
    opened = desk.everything(Match=f"CreationTime = ('{low}','{high}')")
    since = desk.everything(Match=f"CreationTime = ('{low}',)")
    until = desk.everything(Match=f"CreationTime = [,'{high}']")
    both = desk.everything(Match=f"CreationTime = ['{low}',] and CreationTime = [,'{high}']")
    none = desk.everything(Match=f"CreationTime = ['{high}','{low}']")

    assert closed == both == desk.ids(*range(100, 141))
    assert opened == desk.ids(*range(101, 140))
    assert since == desk.ids(*range(101, 310))
    assert until == desk.ids(*range(141))
    assert none == []


def test_any_filter_lists_just_the_media_that_meet_it() -> None:
    desk = Desk(1100)
    desk.library.add(50, now=NOW - 100, life_seconds=10)
    desk.library.add(50, now=NOW - 5, life_seconds=10)
    for index in (7, 600, 1110, 1190):
        desk.library.change(index, {"Title": "Renamed", "Status": "Blocked"}, NOW - 3)
    known = {media_id: info(desk, media_id) for media_id in desk.everything()}
    middle = known[desk.ids(500)[0]]["ModificationTime"]

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
        assert desk.everything(Match=match) == expected(holds)
        assert desk.everything(Match=match) == expected(holds)


def test_media_are_found_by_their_ids() -> None:
    desk = Desk()
    wanted = desk.ids(3, 40, 41)
    listed = ",".join(f"'{media_id}'" for media_id in [*wanted, "nobody"])

    assert desk.everything(Match=f"MediaId in ({listed})") == wanted
    assert desk.everything(Match=f"MediaId = '{wanted[0]}'") == wanted[:1]
    assert desk.everything(Match=f"MediaId in ({listed}) and Title = 'no such title'") == []


def test_the_order_of_modification_follows_changes_by_hand() -> None:
    desk = Desk(40)
    desk.library.add(10, now=NOW - 50, life_seconds=10)
    desk.library.change(20, {"Title": "Late"}, NOW - 45)
    desk.library.change(10, {"Title": "Latest"}, NOW - 1)

    for kind in ("video", "audio"):
        ascending = ids(rows(desk, SearchType=kind, SortBy="ModificationTime:Asc"))
        descending = ids(rows(desk, SearchType=kind, SortBy="ModificationTime:Desc"))
        times = [info(desk, media_id)["ModificationTime"] for media_id in ascending]
        assert times == sorted(times)
        assert descending == ascending[::-1]
        assert sorted(ascending) == sorted(ids(rows(desk, SearchType=kind)))


def test_deleted_media_vanish_from_every_listing() -> None:
    desk = Desk()
    desk.everything()
    gone = desk.ids(0, 30, 59)

    for index in (0, 30, 59):
        desk.library.delete(index, NOW)
    desk.library.delete(31, NOW, file_only=True)

    left = [media_id for media_id in desk.ids(*range(60)) if media_id not in gone]
    assert desk.everything() == left
    assert set(desk.everything(SortBy="ModificationTime:Desc")) == set(left)
    assert desk.everything(Match=f"MediaId = '{gone[0]}'") == []
    assert sum(desk.search(SearchType=kind)["Total"] for kind in ("video", "audio")) == 57


def test_media_that_the_api_denies_are_not_listed_either() -> None:
    desk = Desk()
    desk.injector.set(Faults(gone=set(desk.ids(5)), late={desk.ids(6)[0]: 30}), now=NOW)

    assert desk.everything(NOW + 29) == desk.ids(*range(5), *range(7, 60))
    assert desk.everything(NOW + 30) == desk.ids(*range(5), *range(6, 60))


def test_a_lagging_search_index_lists_the_past() -> None:
    desk = Desk()
    desk.library.add(1, now=NOW, life_seconds=0)
    desk.library.delete(3, NOW)
    desk.library.change(4, {"Title": "Renamed"}, NOW - 100)
    desk.library.change(4, {"Title": "Renamed again"}, NOW)
    desk.injector.set(Faults(search_lag_seconds=30))

    assert desk.everything(NOW + 29) == desk.ids(*range(60))
    assert desk.everything(NOW + 30) == desk.ids(*range(3), *range(4, 61))
    assert desk.everything(NOW + 29, Match="Title = 'renamed again'") == []
    assert desk.everything(NOW + 29, Match="Title = 'renamed'") == desk.ids(4)
    assert desk.everything(NOW + 30, Match="Title = 'renamed again'") == desk.ids(4)


def test_pages_beyond_five_thousand_rows_need_a_token() -> None:
    desk = Desk(6000)

    assert len(desk.search(PageNo=50, PageSize=100)["MediaList"]) == 100
    assert desk.search(PageNo=50, PageSize=100)["Total"] > 5000
    assert desk.refused(PageNo=51, PageSize=100) == ("InvalidParameter", 400)
    assert desk.refused(PageNo=201, PageSize=10) == ("InvalidParameter", 400)
    assert desk.refused(SearchType="image", PageNo=51, PageSize=100) == ("InvalidParameter", 400)


def test_a_walk_by_token_reaches_every_row_once() -> None:
    desk = Desk(6500)
    token, page, walked = "", 1, list[str]()

    while True:
        answer = desk.search(SortBy="CreationTime:Asc", PageNo=page, PageSize=100, ScrollToken=token)
        if not answer["MediaList"]:
            break
        walked += ids(answer["MediaList"])
        token, page = answer["ScrollToken"], page + 1
        assert len(token) == 32

    assert len(walked) == answer["Total"] > 5000
    assert walked == [
        media_id for media_id in desk.ids(*range(6500)) if desk.library.outline(desk.library.index(media_id) or 0).is_video
    ]


def test_a_token_allows_one_step_of_the_walk_that_it_belongs_to() -> None:
    desk = Desk(500)
    token = desk.search(PageSize=50)["ScrollToken"]

    assert len(desk.search(PageNo=3, PageSize=50, ScrollToken=token)["MediaList"]) == 50
    assert desk.refused(PageNo=4, PageSize=50, ScrollToken=token) == ("InvalidParameter", 400)
    other_searches: list[dict[str, Any]] = [{"SearchType": "audio"}, {"Match": "Status = 'Normal'"}, {"SortBy": "CreationTime:Asc"}]
    for search in other_searches:
        assert desk.refused(PageNo=2, PageSize=50, ScrollToken=token, **search) == ("InvalidParameter", 400)
    for foreign in ("0" * 32, "nonsense", token[::-1]):
        assert desk.refused(PageNo=2, PageSize=50, ScrollToken=foreign) == ("InvalidParameter", 400)
    by_two = desk.search(SortBy="CreationTime:Desc,ModificationTime:Asc")["ScrollToken"]
    keys = "CreationTime:Desc,ModificationTime:Asc"
    assert desk.refused(PageNo=2, ScrollToken=by_two, SortBy=keys) == ("SortByExceededMax", 400)


def test_a_token_ends_at_two_million_rows_and_after_its_lifetime() -> None:
    desk = Desk(lifetime=60)
    scroll = ScrollTokens(1, 60)
    last = scroll.make("video|CreationTime|True|", 1_999_900, NOW)

    assert desk.search(NOW + 60, PageNo=20_000, PageSize=100, ScrollToken=last)["MediaList"] == []
    assert desk.refused(PageNo=20_001, PageSize=100, ScrollToken=last) == ("InvalidParameter", 400)
    assert desk.refused(NOW + 60.1, PageNo=2, ScrollToken=last) == ("InvalidScrollToken.Expired", 400)


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
def test_what_cannot_be_listed_is_refused(parameters: dict[str, Any], code: str) -> None:
    assert Desk().refused(**parameters) == (code, 400)


def test_urls_in_a_listing_are_signed_unless_the_answers_are_plain() -> None:
    listed = rows(Desk(plain=False), Fields="CoverURL")

    assert any("auth_key=" in row["Video"].get("CoverURL", "") for row in listed)


def test_a_quota_of_its_own_is_set_like_the_others() -> None:
    assert EmulatorConfig().search_qps == 50
