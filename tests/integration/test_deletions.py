"""Notifications of a deletion, with and without VOD's confirmation, on each of the three databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON, SECOND, body, element, notify
from tests.sync_harness import Installation
from worker.core import events
from worker.store import Store
from worker.store.tables import media, mezzanine
from worker.sync.receive import delivery, receive


@pytest.fixture
def installation(store: Store) -> Installation:
    return Installation(store)


def delete(installation: Installation, media_id: str, **fields: Any) -> None:
    """Notify of a deletion, one second later."""
    installation.now += SECOND
    fields = {"MediaType": "video", "DeleteType": "all", "MediaId": media_id} | fields
    notify(installation.store, media_id, event="DeleteMediaComplete", now=installation.now - SECOND, **fields)


def test_a_deletion_that_vod_confirms_is_stored_with_its_time(installation: Installation) -> None:
    installation.vod.put(element("a"))
    notify(installation.store, "a")
    installation.run()
    del installation.vod.media["a"]

    delete(installation, "a")
    installation.run()

    assert installation.state() == ("deleted", NOON)
    assert installation.requests() == []
    assert len(installation.rows(mezzanine)) == 1


def test_an_asset_that_was_never_stored_becomes_deleted(installation: Installation) -> None:
    delete(installation, "a")

    installation.run()

    assert installation.state() == ("deleted", NOON)


@pytest.mark.parametrize("fields", [{"DeleteType": "stream", "JobIds": "j-hd"}, {"DeleteType": "mezzanine"}, {"Status": "fail"}])
def test_a_partial_or_failed_deletion_is_only_fetched(installation: Installation, fields: dict[str, str]) -> None:
    installation.vod.put(element("a"))

    delete(installation, "a", **fields)
    installation.run()

    assert installation.state() == ("ok", None)


def test_a_deletion_that_vod_does_not_confirm_changes_nothing(installation: Installation) -> None:
    installation.vod.put(element("a"))

    delete(installation, "a")
    installation.run()

    assert installation.state() == ("ok", None)


def test_a_deletion_notified_before_vods_own_data_change_is_stored_later(installation: Installation) -> None:
    installation.vod.put(element("a"))
    notify(installation.store, "a")
    installation.run()

    delete(installation, "a")
    installation.run()
    state_before_the_change = installation.state()
    installation.now += 3 * SECOND
    installation.run()
    del installation.vod.media["a"]
    installation.now += 6 * SECOND
    installation.run()

    assert state_before_the_change == ("ok", None)
    assert installation.state() == ("deleted", NOON)
    assert installation.requests() == []


def test_an_asset_that_vod_still_shows_after_all_retries_is_ok(installation: Installation) -> None:
    installation.vod.put(element("a", Title="Old"))
    delete(installation, "a")
    installation.vod.put(element("a", Title="New"))

    pauses = installation.run_until_settled()

    assert pauses == [2, 5, 15, 60, 300]
    assert installation.state() == ("ok", None)
    assert installation.rows(media)[0].title == "New"


def test_a_late_notification_does_not_hide_a_deletion(installation: Installation) -> None:
    installation.vod.put(element("a"))
    delete(installation, "a")
    installation.run()
    installation.now += SECOND
    notify(installation.store, "a", event="SnapshotComplete", now=installation.now - SECOND)
    installation.run()
    del installation.vod.media["a"]
    installation.now += 3 * SECOND

    installation.run()

    assert installation.state() == ("deleted", NOON)


def test_a_deletion_that_waited_in_the_spool_counts(installation: Installation) -> None:
    installation.vod.put(element("a"))
    spooled = delivery(
        "default", events.parse(body("a", "DeleteMediaComplete", MediaType="video", DeleteType="all")), received_at=NOON
    )
    installation.now += timedelta(hours=1)
    receive(installation.store, [spooled], now=installation.now - SECOND)

    installation.run()
    del installation.vod.media["a"]
    installation.run_until_settled()

    assert installation.state() == ("deleted", NOON)


def test_a_deleted_asset_that_vod_shows_again_is_ok(installation: Installation) -> None:
    delete(installation, "a")
    installation.run()
    installation.vod.put(element("a"))
    installation.now += SECOND
    notify(installation.store, "a", now=installation.now - SECOND)

    installation.run()

    assert installation.state() == ("ok", None)


def test_an_asset_that_returned_is_not_deleted_by_its_old_deletion(installation: Installation) -> None:
    delete(installation, "a")
    installation.run()
    installation.vod.put(element("a"))
    installation.now += SECOND
    notify(installation.store, "a", now=installation.now - SECOND)
    installation.run()
    del installation.vod.media["a"]
    installation.now += SECOND
    notify(installation.store, "a", event="TranscodeComplete", now=installation.now - SECOND)

    installation.run()
    state_after_one_answer = installation.state()
    installation.run_until_settled()

    assert state_after_one_answer == ("ok", None)
    assert installation.state() == ("missing", None)


def test_a_forbidden_asset_is_not_deleted(installation: Installation) -> None:
    installation.vod.put(element("a"))
    installation.vod.forbidden = {"a"}

    delete(installation, "a")
    installation.run()

    assert installation.state() == ("forbidden", None)
