"""When an asset that VOD is still processing is fetched again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.builders import NOON, element, typed
from worker.core.media import Media
from worker.store.inbox.sync_requests import BACKFILL, LIVE, SyncRequest
from worker.sync.retry_policy import RetryPolicy

POLICY = RetryPolicy(follow_up_limit=timedelta(days=3))


def test_the_pauses_of_the_default_policy_are_the_documented_ones() -> None:
    policy = RetryPolicy()

    assert [delay.total_seconds() for delay in policy.not_final_delays] == [2, 5, 15, 60, 300]
    assert (policy.backoff.first, policy.backoff.longest) == (timedelta(seconds=1), timedelta(minutes=5))
    assert (policy.throttle_pause, policy.credentials_pause) == (timedelta(seconds=1), timedelta(minutes=1))
    assert (policy.follow_up.first, policy.follow_up.longest) == (timedelta(minutes=1), timedelta(hours=6))
    assert (policy.max_attempts, policy.follow_up_limit) == (10, timedelta(hours=72))


def asset(status: str, source_file_status: str) -> Media:
    raw: dict[str, Any] = element("a", Status=status)
    raw["MezzanineInfo"]["Status"] = source_file_status
    return typed(raw)


def follow_up_at(media: Media, *, now: datetime = NOON, requested_at: datetime = NOON) -> datetime | None:
    request = SyncRequest("a", 1, 0, "test", LIVE, requested_at)
    retry = POLICY.retry_incomplete(request, media, now=now)
    if retry is None:
        return None
    assert (retry.media_id, retry.priority, retry.waited, retry.failed) == ("a", BACKFILL, True, False)
    return retry.at


@pytest.mark.parametrize(
    ("status", "source_file_status"),
    [("Transcoding", "Normal"), ("Normal", "Transcoding"), ("Normal", "Checking"), ("Checking", "Uploading")],
)
def test_an_asset_is_fetched_again_while_it_or_its_source_file_is_unfinished(status: str, source_file_status: str) -> None:
    assert follow_up_at(asset(status, source_file_status)) == NOON + timedelta(minutes=1)


@pytest.mark.parametrize(("status", "source_file_status"), [("Normal", "Normal"), ("Blocked", "Normal"), ("Normal", "Deleted")])
def test_a_finished_asset_with_a_finished_source_file_is_not_fetched_again(status: str, source_file_status: str) -> None:
    assert follow_up_at(asset(status, source_file_status)) is None


def test_only_the_status_of_the_asset_counts_if_it_has_no_source_file() -> None:
    raw = element("a", Status="Normal")
    del raw["MezzanineInfo"]

    retry = POLICY.retry_incomplete(SyncRequest("a", 1, 0, "test", BACKFILL, NOON), typed(raw), now=NOON)

    assert retry is None


def test_an_asset_is_fetched_again_until_its_request_is_as_old_as_the_limit() -> None:
    unfinished, limit = asset("Transcoding", "Normal"), timedelta(days=3)

    before = follow_up_at(unfinished, now=NOON + limit - timedelta(microseconds=1))
    at_the_limit = follow_up_at(unfinished, now=NOON + limit)

    assert before == NOON + limit + timedelta(minutes=1) - timedelta(microseconds=1)
    assert at_the_limit is None
