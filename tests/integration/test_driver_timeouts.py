"""Answers that are not final yet: asked for again after a while, and believed in the end. On each of the three databases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, announced, body, element, notify, request, source_context
from worker.core import events
from worker.core.errors import VodRefusedError
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL
from worker.store.tables import media, mezzanine, sync_request
from worker.sync.batch import sync_batch
from worker.sync.jobs import backfill, reconcile
from worker.sync.receive import delivery, receive
from worker.vod.testing import FakeVod


class Installation:
    """A store and a VOD, and a clock that stands at the next thing to do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON + SECOND

    def run(self) -> None:
        sync_batch(self.store, source_context(self.vod), now=self.now)

    def run_until_settled(self) -> list[float]:
        """Every batch until nothing is owed; gives the pauses between them, in seconds."""
        self.run()
        pauses = []
        while (owed := self.owed()) and owed[0].state == "due":
            pauses.append((owed[0].available_at - self.now).total_seconds())
            self.now = owed[0].available_at + SECOND
            self.run()
        return pauses

    def owed(self) -> list[Any]:
        return self.rows(sync_request)

    def rows(self, table: Any) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(select(table).order_by(table.c.media_id)))

    def state(self) -> tuple[str, datetime | None]:
        row = self.rows(media)[0]
        return row.state, row.deleted_at


@pytest.fixture
def here(store: Store) -> Installation:
    return Installation(store)


def test_an_unknown_id_of_a_notification_is_missing_at_once_and_looked_for_five_times_more(here: Installation) -> None:
    notify(here.store, "a")

    here.run()
    at_once = here.state()
    pauses = here.run_until_settled()

    assert at_once == ("missing", None)
    assert pauses == [2, 5, 15, 60, 300]
    assert here.state() == ("missing", None)


def test_a_medium_that_appears_late_is_found(here: Installation) -> None:
    notify(here.store, "a")
    here.run()
    here.vod.put(element("a"))
    here.now += timedelta(seconds=3)

    here.run()

    assert here.state() == ("ok", None)
    assert here.owed() == []


def test_a_known_medium_that_is_gone_for_a_moment_stays(here: Installation) -> None:
    here.vod.put(element("a"))
    notify(here.store, "a")
    here.run()
    del here.vod.media["a"]
    here.now += SECOND
    notify(here.store, "a", event="TranscodeComplete", now=here.now - SECOND)

    here.run()
    for_a_moment = here.state()
    here.run_until_settled()

    assert for_a_moment == ("ok", None)
    assert here.state() == ("missing", None)


def test_a_known_medium_is_not_missing_because_of_one_answer_to_a_follow_up(here: Installation) -> None:
    here.vod.put(element("a", Status="Transcoding"))
    notify(here.store, "a")
    for _ in range(7):
        here.run()
        here.now = here.owed()[0].available_at + SECOND
    del here.vod.media["a"]

    here.run()
    for_a_moment = here.state()
    pauses = here.run_until_settled()

    assert for_a_moment == ("ok", None)
    assert pauses == [2, 5, 15, 60, 300]
    assert here.state() == ("missing", None)


@pytest.mark.parametrize("lane", [MANUAL, BACKFILL])
def test_a_known_medium_is_not_missing_because_somebody_else_asks(here: Installation, lane: int) -> None:
    here.vod.put(element("a"))
    notify(here.store, "a")
    here.run()
    shown = here.vod.media.pop("a")
    request(here.store, "a", priority=lane)

    here.run()
    for_a_moment = here.state()
    here.vod.put(shown)
    pauses = here.run_until_settled()

    assert for_a_moment == here.state() == ("ok", None)
    assert pauses == [2]


@pytest.mark.parametrize("lane", [LIVE, BACKFILL])
def test_an_element_that_says_nothing_erases_nothing_and_is_asked_for_again(here: Installation, lane: int) -> None:
    here.vod.put(element("a"))
    notify(here.store, "a")
    here.run()
    before = here.rows(media)[0]
    here.vod.put({"MediaId": "a"})
    request(here.store, "a", priority=lane)

    pauses = here.run_until_settled()

    after = here.rows(media)[0]
    assert pauses == [2, 5, 15, 60, 300]
    assert after.observed_at > before.observed_at
    assert (after.title, after.tags, after.status, after.state, after.content_hash) == (
        "Demo",
        ["a", "b"],
        "Normal",
        "ok",
        before.content_hash,
    )
    assert len(here.rows(mezzanine)) == 1


def test_an_id_that_a_person_asks_for_is_missing_without_more_ado(here: Installation) -> None:
    request(here.store, "a", priority=MANUAL)

    here.run()

    assert here.state() == ("missing", None)
    assert here.owed() == []


def test_a_file_that_is_not_analysed_yet_is_asked_for_again_and_then_followed_until_final(here: Installation) -> None:
    here.vod.put(announced("a"))
    notify(here.store, "a", event="FileUploadComplete")

    here.run()
    source_contexts = [here.owed()[0].priority]
    for _ in range(6):
        here.now = here.owed()[0].available_at + SECOND
        here.run()
        source_contexts.append(here.owed()[0].priority)
    here.vod.put(element("a"))
    here.now = here.owed()[0].available_at + SECOND
    here.run()

    assert source_contexts == [LIVE] * 5 + [BACKFILL] * 2
    assert here.owed() == []
    assert len(here.rows(mezzanine)) == 1


def test_a_failed_analysis_is_final(here: Installation) -> None:
    here.vod.put(announced("a", Status="UploadSucc"))
    notify(here.store, "a", Status="fail", ErrorCode="InvalidFile", ErrorMessage="no stream")

    here.run()

    assert here.state() == ("ok", None)
    assert here.owed() == []


def test_a_medium_at_work_is_followed_with_growing_pauses_until_we_give_up(here: Installation) -> None:
    here.vod.put(element("a", Status="Transcoding"))
    notify(here.store, "a")

    pauses = here.run_until_settled()

    assert pauses[:4] == [60, 120, 240, 480]
    assert max(pauses) == 6 * 3600
    assert timedelta(days=3) <= here.now - NOON < timedelta(days=3, hours=7)


@pytest.mark.parametrize(("reason", "first"), [(backfill.KIND, 3 * 3600), (reconcile.KIND, 3 * 3600), ("TranscodeComplete", 60)])
def test_a_medium_that_a_walk_came_across_is_followed_as_slowly_as_it_changes(here: Installation, reason: str, first: int) -> None:
    here.vod.put(element("a", Status="Transcoding", ModificationTime=f"{here.now - timedelta(hours=30):%Y-%m-%dT%H:%M:%SZ}"))
    request(here.store, "a", priority=BACKFILL, reason=reason)

    pauses = here.run_until_settled()

    assert pauses[0] == first
    assert max(pauses) == 6 * 3600


def test_a_new_notification_starts_the_patience_again(here: Installation) -> None:
    here.vod.put(element("a", Status="Transcoding"))
    notify(here.store, "a")
    here.run()
    here.now += SECOND

    notify(here.store, "a", event="TranscodeComplete", now=here.now - SECOND)

    owed = here.owed()[0]
    assert (owed.waits, owed.priority, owed.available_at, owed.requested_at) == (0, LIVE, here.now - SECOND, here.now - SECOND)


def test_a_medium_that_is_not_in_the_state_that_vod_wants_is_asked_for_later(here: Installation) -> None:
    notify(here.store, "a")
    here.vod.fail(VodRefusedError("not yet", code="Forbidden.IllegalStatus", status=403))

    here.run()

    assert (here.owed()[0].state, here.owed()[0].waits) == ("due", 1)


# Deletions


def delete(here: Installation, media_id: str, **fields: Any) -> None:
    here.now += SECOND
    said = {"MediaType": "video", "DeleteType": "all", "MediaId": media_id} | fields
    notify(here.store, media_id, event="DeleteMediaComplete", now=here.now - SECOND, **said)


def test_a_deletion_that_vod_confirms_is_noted_with_its_time(here: Installation) -> None:
    here.vod.put(element("a"))
    notify(here.store, "a")
    here.run()
    del here.vod.media["a"]

    delete(here, "a")
    here.run()

    assert here.state() == ("deleted", NOON)
    assert here.owed() == []
    assert len(here.rows(mezzanine)) == 1


def test_a_medium_that_we_never_had_is_deleted_as_well(here: Installation) -> None:
    delete(here, "a")

    here.run()

    assert here.state() == ("deleted", NOON)


@pytest.mark.parametrize("said", [{"DeleteType": "stream", "JobIds": "j-hd"}, {"DeleteType": "mezzanine"}, {"Status": "fail"}])
def test_what_is_not_deleted_whole_is_only_fetched(here: Installation, said: dict[str, str]) -> None:
    here.vod.put(element("a"))

    delete(here, "a", **said)
    here.run()

    assert here.state() == ("ok", None)


def test_a_deletion_that_vod_does_not_confirm_changes_nothing(here: Installation) -> None:
    here.vod.put(element("a"))

    delete(here, "a")
    here.run()

    assert here.state() == ("ok", None)


def test_a_deletion_that_is_faster_than_vods_own_data_is_noted_once_they_agree(here: Installation) -> None:
    here.vod.put(element("a"))
    notify(here.store, "a")
    here.run()

    delete(here, "a")
    here.run()
    still_shown = here.state()
    here.now += 3 * SECOND
    here.run()
    del here.vod.media["a"]
    here.now += 6 * SECOND
    here.run()

    assert still_shown == ("ok", None)
    assert here.state() == ("deleted", NOON)
    assert here.owed() == []


def test_a_medium_that_is_shown_in_spite_of_its_deletion_is_believed_to_live_in_the_end(here: Installation) -> None:
    here.vod.put(element("a", Title="Old"))
    delete(here, "a")
    here.vod.put(element("a", Title="New"))

    pauses = here.run_until_settled()

    assert pauses == [2, 5, 15, 60, 300]
    assert here.state() == ("ok", None)
    assert here.rows(media)[0].title == "New"


def test_late_news_of_a_deleted_medium_do_not_hide_its_deletion(here: Installation) -> None:
    here.vod.put(element("a"))
    delete(here, "a")
    here.run()
    here.now += SECOND
    notify(here.store, "a", event="SnapshotComplete", now=here.now - SECOND)
    here.run()
    del here.vod.media["a"]
    here.now += 3 * SECOND

    here.run()

    assert here.state() == ("deleted", NOON)


def test_a_deletion_that_waited_in_the_spool_counts(here: Installation) -> None:
    here.vod.put(element("a"))
    told = delivery(
        "default", events.parse(body("a", "DeleteMediaComplete", MediaType="video", DeleteType="all")), received_at=NOON
    )
    here.now += timedelta(hours=1)
    receive(here.store, [told], now=here.now - SECOND)

    here.run()
    del here.vod.media["a"]
    here.run_until_settled()

    assert here.state() == ("deleted", NOON)


def test_a_deleted_medium_that_is_shown_again_lives(here: Installation) -> None:
    delete(here, "a")
    here.run()
    here.vod.put(element("a"))
    here.now += SECOND
    notify(here.store, "a", now=here.now - SECOND)

    here.run()

    assert here.state() == ("ok", None)


def test_a_medium_that_came_back_is_not_deleted_by_its_old_deletion(here: Installation) -> None:
    delete(here, "a")
    here.run()
    here.vod.put(element("a"))
    here.now += SECOND
    notify(here.store, "a", now=here.now - SECOND)
    here.run()
    del here.vod.media["a"]
    here.now += SECOND
    notify(here.store, "a", event="TranscodeComplete", now=here.now - SECOND)

    here.run()
    for_a_moment = here.state()
    here.run_until_settled()

    assert for_a_moment == ("ok", None)
    assert here.state() == ("missing", None)


def test_forbidden_is_never_taken_for_deleted(here: Installation) -> None:
    here.vod.put(element("a"))
    here.vod.forbidden = {"a"}

    delete(here, "a")
    here.run()

    assert here.state() == ("forbidden", None)
