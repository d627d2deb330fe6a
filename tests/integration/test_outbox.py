"""Which changes are written down for the change feed, on each of the three databases."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from tests.builders import NOON, SECOND, announced, clip, element, typed
from worker.core.media import Media, VideoInfo
from worker.store import Store
from worker.store.catalogue.assets import FORBIDDEN, MISSING, AssetState, Catalogue
from worker.store.outbox import Change, Outbox


class Desk:
    """A catalogue at work, second after second, and what it wrote down since somebody looked last."""

    def __init__(self, store: Store, *, announce: bool = True) -> None:
        self.store = store
        self._announce = announce
        self._now = NOON

    def save(self, *medias: Media) -> None:
        self._work(lambda catalogue, at: catalogue.save("default", medias, observed_at=at))

    def mark(self, *media_ids: str, state: AssetState = MISSING, only_new: bool = False) -> None:
        self._work(lambda catalogue, at: catalogue.mark("default", media_ids, state, observed_at=at, only_new=only_new))

    def delete(self, *media_ids: str) -> None:
        self._work(lambda catalogue, at: catalogue.mark_deleted("default", dict.fromkeys(media_ids, NOON), observed_at=at))

    def add(self, info: VideoInfo) -> None:
        self._work(lambda catalogue, at: catalogue.save_video_infos("default", [info], observed_at=at))

    def news(self) -> list[tuple[str, str, set[str]]]:
        """Each change since the last look as id, kind and fields."""

        def take(connection: Any) -> list[Change]:
            found = Outbox(connection).oldest(100)
            Outbox(connection).delete([each.id for each in found])
            return found

        return [(each.media_id, each.change, set(each.fields)) for each in self.store.transact(take)]

    def _work(self, work: Any) -> None:
        self._now += SECOND
        self.store.transact(lambda connection: work(Catalogue(connection, announce=self._announce), self._now))


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def listen(store: Store) -> list[str]:
    """Every statement from now on."""
    heard: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            heard.append(statement)

    event.listen(store.engine, "before_cursor_execute", hear)
    return heard


PARTS = {"mezzanine", "audio_streams", "video_streams", "play_infos"}


def test_a_new_medium_is_created_with_the_fields_that_it_has(desk: Desk) -> None:
    desk.save(clip("a"), typed(announced("b")))

    assert desk.news() == [
        ("a", "created", {"title", "status", "tags", "state"} | PARTS),
        ("b", "created", {"title", "status", "state"}),
    ]


def test_a_change_says_what_when_and_whose(desk: Desk) -> None:
    desk.save(clip("a", Title="Old"))
    desk.news()

    desk.save(clip("a", Title="New"))

    with desk.store.reading() as connection:
        (change,) = Outbox(connection).oldest(10)
        waiting = Outbox(connection).pending()
    assert (change.source, change.media_id, change.change, change.fields) == ("default", "a", "updated", ["title"])
    assert change.changed_at == NOON + 2 * SECOND
    assert (waiting.count, waiting.since) == (1, NOON + 2 * SECOND)


def test_an_unchanged_or_older_answer_is_no_news(desk: Desk) -> None:
    desk.save(clip("a", CoverURL="http://x.example/c.jpg?auth_key=1-0-0-aa"))
    desk.news()

    desk.save(clip("a", CoverURL="http://x.example/c.jpg?auth_key=2-0-0-bb"))
    desk.store.transact(
        lambda connection: Catalogue(connection, announce=True).save("default", [clip("a", Title="Old")], observed_at=NOON)
    )

    assert desk.news() == []


def test_parts_that_changed_are_named_and_others_are_not(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.news()
    other = element("a")
    other["PlayInfoList"].append({"JobId": "second", "Definition": "LD"})
    other["MezzanineInfo"]["VideoStreamList"][0]["Fps"] = "25"

    desk.save(typed(other))
    other["MezzanineInfo"]["Size"] = 1
    desk.save(typed(other))
    other["MezzanineInfo"]["AudioStreamList"] = []
    desk.save(typed(other))

    assert desk.news() == [
        ("a", "updated", {"play_infos", "video_streams"}),
        ("a", "updated", {"mezzanine"}),
        ("a", "updated", {"audio_streams"}),
    ]


def test_what_has_no_column_changed_in_raw(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.news()

    desk.save(clip("a", BrandNew="field of VOD"))

    assert desk.news() == [("a", "updated", {"raw"})]


def test_an_answer_without_analysis_changes_no_part_and_repeated_it_changes_nothing(desk: Desk) -> None:
    desk.save(clip("a", Tags=""))
    desk.news()

    desk.save(typed(announced("a", Title="Renamed")))
    desk.save(typed(announced("a", Title="Renamed")))
    desk.save(clip("a", Tags="", Title="Renamed"))

    assert desk.news() == [("a", "updated", {"title", "status"}), ("a", "updated", {"status"})]


def test_a_medium_that_vod_does_not_show_yet_is_created_once_it_does(desk: Desk) -> None:
    desk.mark("a", "b", only_new=True)
    desk.mark("b", state=FORBIDDEN)
    desk.delete("b")
    before = desk.news()

    desk.save(clip("a"), typed(announced("b")))

    assert before == []
    assert [(media_id, kind) for media_id, kind, _ in desk.news()] == [("a", "created"), ("b", "created")]


def test_a_medium_that_disappears_and_comes_back_is_updated(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.news()

    desk.mark("a", state=MISSING)
    desk.mark("a", state=MISSING)
    desk.mark("a", state=FORBIDDEN)
    desk.save(clip("a", Title="Back"))

    assert desk.news() == [
        ("a", "updated", {"state"}),
        ("a", "updated", {"state"}),
        ("a", "updated", {"state", "title"}),
    ]


def test_a_deleted_medium_is_deleted_once_and_revived_by_an_update(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.news()

    desk.delete("a")
    desk.delete("a")
    desk.save(clip("a"))

    assert desk.news() == [("a", "deleted", {"state", "deleted_at"}), ("a", "updated", {"state", "deleted_at"})]


def test_a_half_analysed_medium_that_was_away_is_not_created_again(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.save(typed(announced("a")))
    desk.mark("a", state=MISSING)
    desk.news()

    desk.mark("a", state=FORBIDDEN)
    desk.save(clip("a"))

    assert [kind for _, kind, _ in desk.news()] == ["updated", "updated"]


def test_the_single_video_operation_updates_what_it_adds(desk: Desk) -> None:
    desk.save(clip("a"))
    desk.news()

    desk.add(VideoInfo(media_id="a", audit_status="Normal", region_id="cn-shanghai", raw={}))
    desk.add(VideoInfo(media_id="a", audit_status="Normal", region_id="cn-shanghai", raw={}))
    desk.add(VideoInfo(media_id="a", audit_status="Blocked", region_id="cn-shanghai", raw={}))

    assert desk.news() == [("a", "updated", {"audit_status", "region_id"}), ("a", "updated", {"audit_status"})]


def test_a_change_that_is_rolled_back_was_never_written_down(desk: Desk) -> None:
    def save(connection: Any) -> None:
        Catalogue(connection, announce=True).save("default", [clip("a")], observed_at=NOON)
        connection.rollback()

    desk.store.transact(save)

    assert desk.news() == []


def test_switched_off_nothing_is_written_down_and_no_statement_is_added(store: Store) -> None:
    desk = Desk(store, announce=False)
    statements = listen(store)

    desk.save(clip("a"), clip("b"))
    new = len(statements)
    desk.save(clip("a"), clip("b"))
    unchanged = len(statements) - new
    desk.save(clip("a", Title="New"))
    changed = len(statements) - new - unchanged
    desk.mark("a")
    desk.delete("a")

    assert not [statement for statement in statements if "vod_change" in statement]
    assert desk.news() == []
    # The look, and vod_media; five tables of parts beside it, emptied first where they were written before.
    assert (new, unchanged, changed) == (2 + 5, 2, 2 + 5 + 5)


def test_switched_on_an_unchanged_answer_costs_no_statement_more(desk: Desk) -> None:
    desk.save(clip("a"))
    statements = listen(desk.store)

    desk.save(clip("a"))

    assert len(statements) == 2


def test_changes_of_one_medium_are_written_down_in_the_order_in_which_they_are_committed(store: Store) -> None:
    def work(turn: int) -> None:
        for step in range(8):
            at = NOON + timedelta(seconds=step * 4 + turn)
            medias = [clip(media_id, Title=f"at {at}") for media_id in "abc"]
            store.transact(lambda connection: Catalogue(connection, announce=True).save("default", medias, observed_at=at))  # noqa: B023

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    with store.reading() as connection:
        changes = Outbox(connection).oldest(1000)
    for media_id in "abc":
        of_one = [each for each in changes if each.media_id == media_id]
        times = [each.changed_at for each in of_one]
        assert times == sorted(set(times))
        assert [each.change for each in of_one] == ["created"] + ["updated"] * (len(of_one) - 1)
    assert max(each.changed_at for each in changes) == NOON + timedelta(seconds=31)


def test_an_id_is_never_used_twice(desk: Desk) -> None:
    def ids() -> list[int]:
        with desk.store.reading() as connection:
            return [each.id for each in Outbox(connection).oldest(10)]

    desk.save(clip("a"))
    first = ids()
    desk.news()
    desk.save(clip("b"))

    assert ids()[0] > first[0]


def test_only_the_old_are_dropped(desk: Desk) -> None:
    for number in range(5):
        desk.save(clip(f"m{number}"))

    def drop(before: datetime, limit: int = 100) -> int:
        return desk.store.transact(lambda connection: Outbox(connection).delete_older(before=before, limit=limit))

    dropped = [drop(NOON + 3 * SECOND, limit=1), drop(NOON + 3 * SECOND), drop(NOON + 3 * SECOND)]

    assert dropped == [1, 1, 0]
    assert [media_id for media_id, _, _ in desk.news()] == ["m2", "m3", "m4"]
