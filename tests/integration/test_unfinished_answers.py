"""Answers that are not final yet are fetched again after a while, and accepted in the end; on each of the three databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.builders import NOON, SECOND, announced, element, notify, request
from tests.sync_harness import Installation
from worker.core.errors import VodRefusedError
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL
from worker.store.tables import media, mezzanine
from worker.sync.jobs import backfill, reconcile


@pytest.fixture
def installation(store: Store) -> Installation:
    return Installation(store)


def test_an_unknown_id_of_a_notification_is_missing_at_once_and_fetched_five_more_times(installation: Installation) -> None:
    notify(installation.store, "a")

    installation.run()
    state_after_one_answer = installation.state()
    pauses = installation.run_until_settled()

    assert state_after_one_answer == ("missing", None)
    assert pauses == [2, 5, 15, 60, 300]
    assert installation.state() == ("missing", None)


def test_an_asset_that_appears_late_is_stored(installation: Installation) -> None:
    notify(installation.store, "a")
    installation.run()
    installation.vod.put(element("a"))
    installation.now += timedelta(seconds=3)

    installation.run()

    assert installation.state() == ("ok", None)
    assert installation.requests() == []


def test_a_known_asset_is_missing_only_after_all_retries(installation: Installation) -> None:
    installation.vod.put(element("a"))
    notify(installation.store, "a")
    installation.run()
    del installation.vod.media["a"]
    installation.now += SECOND
    notify(installation.store, "a", event="TranscodeComplete", now=installation.now - SECOND)

    installation.run()
    state_after_one_answer = installation.state()
    installation.run_until_settled()

    assert state_after_one_answer == ("ok", None)
    assert installation.state() == ("missing", None)


def test_a_known_asset_is_not_missing_after_one_answer_to_a_follow_up(installation: Installation) -> None:
    installation.vod.put(element("a", Status="Transcoding"))
    notify(installation.store, "a")
    for _ in range(7):
        installation.run()
        installation.now = installation.requests()[0].available_at + SECOND
    del installation.vod.media["a"]

    installation.run()
    state_after_one_answer = installation.state()
    pauses = installation.run_until_settled()

    assert state_after_one_answer == ("ok", None)
    assert pauses == [2, 5, 15, 60, 300]
    assert installation.state() == ("missing", None)


@pytest.mark.parametrize("priority", [MANUAL, BACKFILL])
def test_a_known_asset_is_not_missing_after_one_answer_to_another_request(installation: Installation, priority: int) -> None:
    installation.vod.put(element("a"))
    notify(installation.store, "a")
    installation.run()
    removed = installation.vod.media.pop("a")
    request(installation.store, "a", priority=priority)

    installation.run()
    state_after_one_answer = installation.state()
    installation.vod.put(removed)
    pauses = installation.run_until_settled()

    assert state_after_one_answer == installation.state() == ("ok", None)
    assert pauses == [2]


@pytest.mark.parametrize("priority", [LIVE, BACKFILL])
def test_an_element_without_details_erases_nothing_and_is_fetched_again(installation: Installation, priority: int) -> None:
    installation.vod.put(element("a"))
    notify(installation.store, "a")
    installation.run()
    before = installation.rows(media)[0]
    installation.vod.put({"MediaId": "a"})
    request(installation.store, "a", priority=priority)

    pauses = installation.run_until_settled()

    after = installation.rows(media)[0]
    assert pauses == [2, 5, 15, 60, 300]
    assert after.observed_at > before.observed_at
    assert (after.title, after.tags, after.status, after.state, after.content_hash) == (
        "Demo",
        ["a", "b"],
        "Normal",
        "ok",
        before.content_hash,
    )
    assert len(installation.rows(mezzanine)) == 1


def test_an_unknown_id_that_a_person_requests_is_missing_at_once(installation: Installation) -> None:
    request(installation.store, "a", priority=MANUAL)

    installation.run()

    assert installation.state() == ("missing", None)
    assert installation.requests() == []


def test_an_unanalysed_file_is_retried_and_then_followed_until_it_is_final(installation: Installation) -> None:
    installation.vod.put(announced("a"))
    notify(installation.store, "a", event="FileUploadComplete")

    installation.run()
    priorities = [installation.requests()[0].priority]
    for _ in range(6):
        installation.now = installation.requests()[0].available_at + SECOND
        installation.run()
        priorities.append(installation.requests()[0].priority)
    installation.vod.put(element("a"))
    installation.now = installation.requests()[0].available_at + SECOND
    installation.run()

    assert priorities == [LIVE] * 5 + [BACKFILL] * 2
    assert installation.requests() == []
    assert len(installation.rows(mezzanine)) == 1


def test_a_failed_analysis_is_final(installation: Installation) -> None:
    installation.vod.put(announced("a", Status="UploadSucc"))
    notify(installation.store, "a", Status="fail", ErrorCode="InvalidFile", ErrorMessage="no stream")

    installation.run()

    assert installation.state() == ("ok", None)
    assert installation.requests() == []


def test_a_transcoding_asset_is_followed_with_growing_pauses_until_the_limit(installation: Installation) -> None:
    installation.vod.put(element("a", Status="Transcoding"))
    notify(installation.store, "a")

    pauses = installation.run_until_settled()

    assert pauses[:4] == [60, 120, 240, 480]
    assert max(pauses) == 6 * 3600
    assert timedelta(days=3) <= installation.now - NOON < timedelta(days=3, hours=7)


@pytest.mark.parametrize("not_found", [1, 2, 5])
def test_the_first_follow_up_comes_after_a_minute_however_often_the_asset_was_not_found(
    installation: Installation, not_found: int
) -> None:
    notify(installation.store, "a")
    for _ in range(not_found):
        installation.run()
        installation.now = installation.requests()[0].available_at + SECOND
    installation.vod.put(element("a", Status="Transcoding"))

    pauses = installation.run_until_settled()

    assert pauses[:3] == [60, 120, 240]


@pytest.mark.parametrize(
    ("reason", "first_pause"), [(backfill.KIND, 3 * 3600), (reconcile.KIND, 3 * 3600), ("TranscodeComplete", 60)]
)
def test_an_asset_that_a_job_requested_is_followed_as_slowly_as_it_changes(
    installation: Installation, reason: str, first_pause: int
) -> None:
    installation.vod.put(
        element("a", Status="Transcoding", ModificationTime=f"{installation.now - timedelta(hours=30):%Y-%m-%dT%H:%M:%SZ}")
    )
    request(installation.store, "a", priority=BACKFILL, reason=reason)

    pauses = installation.run_until_settled()

    assert pauses[0] == first_pause
    assert max(pauses) == 6 * 3600


def test_a_new_notification_resets_the_waits(installation: Installation) -> None:
    installation.vod.put(element("a", Status="Transcoding"))
    notify(installation.store, "a")
    installation.run()
    installation.now += SECOND

    notify(installation.store, "a", event="TranscodeComplete", now=installation.now - SECOND)

    pending = installation.requests()[0]
    assert (pending.waits, pending.priority, pending.available_at, pending.requested_at) == (
        0,
        LIVE,
        installation.now - SECOND,
        installation.now - SECOND,
    )


def test_an_illegal_status_is_retried_later(installation: Installation) -> None:
    notify(installation.store, "a")
    installation.vod.fail(VodRefusedError("not yet", code="Forbidden.IllegalStatus", status=403))

    installation.run()

    assert (installation.requests()[0].state, installation.requests()[0].waits) == ("due", 1)
