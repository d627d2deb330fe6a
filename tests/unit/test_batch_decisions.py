"""Decide what happens to each request of a batch and what is written, without a database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOON, SECOND, announced, element, typed
from worker.core.backoff import Backoff
from worker.core.errors import VodRefusedError, VodUnavailableError
from worker.core.ids import reference_key
from worker.core.media import Answer
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, OK
from worker.store.inbox.history import Deletion
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Claim, Retry, SyncRequest
from worker.sync.decide import AssetWrites, Decisions, StoredFacts, decide
from worker.sync.fetch import FetchResult
from worker.sync.retry_policy import RetryPolicy

NOW = NOON + 10 * SECOND
HOUR = timedelta(hours=1)
POLICY = RetryPolicy(
    max_attempts=3,
    backoff=Backoff(SECOND, 8 * SECOND),
    not_final_delays=(2 * SECOND, 5 * SECOND),
    follow_up=Backoff(60 * SECOND, HOUR),
    follow_up_limit=24 * HOUR,
)
REFERENCE = reference_key("reference-1")


def sync_request(
    key: str = "a",
    *,
    priority: int = LIVE,
    attempts: int = 0,
    waits: int = 0,
    reason: str = "test",
    requested_at: datetime = NOON,
) -> SyncRequest:
    return SyncRequest(key, 1, attempts, reason, priority, requested_at, waits)


def answer(
    *elements: dict[str, Any],
    missing: Iterable[str] = (),
    forbidden: Iterable[str] = (),
    missing_references: Iterable[str] = (),
) -> Answer:
    return Answer(
        media=tuple(map(typed, elements)),
        missing=frozenset(missing),
        forbidden=frozenset(forbidden),
        missing_references=frozenset(missing_references),
    )


def make_decisions(
    requests: SyncRequest | list[SyncRequest],
    *answers: Answer,
    states: dict[str, str] | None = None,
    deletions: dict[str, Deletion] | None = None,
    failed_analyses: frozenset[str] = frozenset(),
    video_info: bool = False,
    **fetched: Any,  # fields of FetchResult
) -> Decisions:
    claim = Claim("default", "token", NOW + HOUR, tuple(requests if isinstance(requests, list) else [requests]))
    times = [NOW + number * SECOND for number in range(len(answers))]
    result = FetchResult(answers=list(zip(answers, times, strict=True)), **fetched)
    facts = StoredFacts(states or {}, deletions or {}, failed_analyses)
    return decide(claim, result, facts, POLICY, now=NOW, video_info=video_info)


def outcome(decisions: Decisions, key: str = "a") -> Any:
    """Return `complete`, or the error of a dead letter, or the seconds until a retry and its error."""
    assert sorted(decisions.keys) == sorted([*decisions.completed, *decisions.retries, *decisions.dead_letters])
    if key in decisions.completed:
        return "complete"
    if key in decisions.dead_letters:
        return f"dead letter: {decisions.dead_letters[key]}"
    retry = decisions.retries[key]
    return f"{(retry.at - NOW).total_seconds():g} s: {retry.error}"


def deletion(seconds: float) -> dict[str, Deletion]:
    """Return a deletion that VOD announced `seconds` after the request was made."""
    return {"a": Deletion(at=NOON - HOUR, reported_at=NOON + seconds * SECOND)}


FINAL = element("a")
TRANSCODING = element("a", Status="Transcoding")
MODIFIED_LONG_AGO = element("a", Status="Transcoding", ModificationTime="2026-03-01T10:20:10Z")
ANNOUNCED = announced("a")
BARE = {"MediaId": "a", "MezzanineInfo": element("a")["MezzanineInfo"]}
SOURCE_DELETED = {"MediaId": "a", "MediaInfo": {"MediaId": "a", "Title": "x"}, "MezzanineInfo": {"Status": "Deleted"}}
NO_DETAILS = "VOD returned no details of this asset (yet)"
NOT_ANALYSED = "VOD has not analysed the file yet"
STILL_RETURNED = "VOD announced the deletion of this asset, but still returns it"


@pytest.mark.parametrize(
    ("returned", "request_", "facts", "expected"),
    [
        (FINAL, {}, {}, "complete"),
        (SOURCE_DELETED, {}, {}, "complete"),
        # Not analysed
        (ANNOUNCED, {}, {}, f"2 s: {NOT_ANALYSED}"),
        (ANNOUNCED, {"waits": 1}, {}, f"5 s: {NOT_ANALYSED}"),
        # The waits of a follow-up fetch, which has the priority backfill, are counted apart from those before it.
        (ANNOUNCED, {"waits": 2}, {}, "60 s: VOD is still processing this asset: Uploading"),
        (ANNOUNCED, {"waits": 2, "priority": BACKFILL}, {}, "240 s: VOD is still processing this asset: Uploading"),
        (ANNOUNCED, {"priority": MANUAL}, {}, "60 s: VOD is still processing this asset: Uploading"),
        (ANNOUNCED, {}, {"failed_analyses": frozenset("a")}, "60 s: VOD is still processing this asset: Uploading"),
        # Unfinished
        (TRANSCODING, {}, {}, "60 s: VOD is still processing this asset: Transcoding"),
        (TRANSCODING, {"waits": 3}, {}, "60 s: VOD is still processing this asset: Transcoding"),
        (TRANSCODING, {"waits": 3, "priority": MANUAL}, {}, "60 s: VOD is still processing this asset: Transcoding"),
        (TRANSCODING, {"waits": 3, "priority": BACKFILL}, {}, "480 s: VOD is still processing this asset: Transcoding"),
        (TRANSCODING, {"waits": 99, "priority": BACKFILL}, {}, "3600 s: VOD is still processing this asset: Transcoding"),
        (TRANSCODING, {"requested_at": NOW - 24 * HOUR}, {}, "complete"),
        (MODIFIED_LONG_AGO, {}, {}, "60 s: VOD is still processing this asset: Transcoding"),
        (MODIFIED_LONG_AGO, {"reason": "reconcile"}, {}, "600 s: VOD is still processing this asset: Transcoding"),
        # Without details
        (BARE, {}, {}, f"2 s: {NO_DETAILS}"),
        (BARE, {"waits": 2}, {}, "complete"),
        (BARE, {"priority": MANUAL}, {}, "complete"),
        (BARE, {"priority": MANUAL}, {"states": {"a": OK}}, f"2 s: {NO_DETAILS}"),
        (BARE, {"priority": MANUAL}, {"states": {"a": MISSING}}, "complete"),
        (BARE, {"priority": BACKFILL, "waits": 9}, {"states": {"a": OK}}, f"2 s: {NO_DETAILS}"),
        # Deletion announced
        (FINAL, {}, {"deletions": deletion(0)}, f"2 s: {STILL_RETURNED}"),
        (FINAL, {"waits": 2}, {"deletions": deletion(0)}, "complete"),
        (FINAL, {"priority": MANUAL}, {"deletions": deletion(0)}, "complete"),
        (FINAL, {}, {"deletions": deletion(-1)}, "complete"),
        (FINAL, {}, {"deletions": deletion(1), "states": {"a": OK}}, f"2 s: {STILL_RETURNED}"),
        (FINAL, {}, {"deletions": deletion(1), "states": {"a": DELETED}}, "complete"),
    ],
)
def test_an_asset_that_vod_returned_is_saved_and_fetched_again_until_it_is_final(
    returned: dict[str, Any], request_: dict[str, Any], facts: dict[str, Any], expected: str
) -> None:
    decisions = make_decisions(sync_request(**request_), answer(returned), **facts)

    assert outcome(decisions) == expected
    assert decisions.assets == [AssetWrites(observed_at=NOW, saved=(typed(returned),))]


NOT_FOUND = "VOD does not know this id (yet)"
GONE_AT = {"a": NOON - HOUR}


@pytest.mark.parametrize(
    ("request_", "facts", "expected", "writes"),
    [
        # Not found yet
        ({}, {}, f"2 s: {NOT_FOUND}", {"missing_if_new": {"a"}}),
        ({"waits": 1}, {}, f"5 s: {NOT_FOUND}", {"missing_if_new": {"a"}}),
        ({"waits": 2}, {}, "complete", {"missing": {"a"}}),
        ({"priority": MANUAL}, {}, "complete", {"missing": {"a"}}),
        ({"priority": BACKFILL}, {}, "complete", {"missing": {"a"}}),
        # Known
        ({"priority": MANUAL}, {"states": {"a": OK}}, f"2 s: {NOT_FOUND}", {"missing_if_new": {"a"}}),
        ({"priority": MANUAL, "waits": 2}, {"states": {"a": OK}}, "complete", {"missing": {"a"}}),
        ({"priority": BACKFILL, "waits": 9}, {"states": {"a": OK}}, f"2 s: {NOT_FOUND}", {"missing_if_new": {"a"}}),
        ({"priority": MANUAL}, {"states": {"a": MISSING}}, "complete", {"missing": {"a"}}),
        ({"priority": MANUAL}, {"states": {"a": FORBIDDEN}}, "complete", {"missing": {"a"}}),
        # Deletion announced after the request
        ({}, {"deletions": deletion(0)}, "complete", {"deleted": GONE_AT}),
        ({}, {"deletions": deletion(1), "states": {"a": OK}}, "complete", {"deleted": GONE_AT}),
        ({}, {"deletions": deletion(1), "states": {"a": MISSING}}, "complete", {"deleted": GONE_AT}),
        # Deletion announced before the request
        ({}, {"deletions": deletion(-1)}, "complete", {"deleted": GONE_AT}),
        ({}, {"deletions": deletion(-1), "states": {"a": DELETED}}, "complete", {"deleted": GONE_AT}),
        ({}, {"deletions": deletion(-1), "states": {"a": OK}}, f"2 s: {NOT_FOUND}", {"missing_if_new": {"a"}}),
        ({"waits": 2}, {"deletions": deletion(-1), "states": {"a": OK}}, "complete", {"missing": {"a"}}),
        ({"waits": 2}, {"deletions": deletion(-1), "states": {"a": MISSING}}, "complete", {"missing": {"a"}}),
    ],
)
def test_an_asset_that_vod_does_not_know_becomes_deleted_or_missing_or_is_fetched_again(
    request_: dict[str, Any], facts: dict[str, Any], expected: str, writes: dict[str, Any]
) -> None:
    decisions = make_decisions(sync_request(**request_), answer(missing="a"), **facts)

    assert outcome(decisions) == expected
    assert decisions.assets == [AssetWrites(observed_at=NOW, **writes)]


def test_a_known_asset_that_backfill_does_not_find_is_fetched_again_with_manual_priority() -> None:
    decisions = make_decisions(sync_request(priority=BACKFILL, waits=9), answer(missing="a"), states={"a": OK})

    assert decisions.retries["a"] == Retry("a", NOW + 2 * SECOND, NOT_FOUND, waited=True, resets_waits=True, priority=MANUAL)


def test_follow_up_fetches_have_the_lowest_priority() -> None:
    assert make_decisions(sync_request(), answer(TRANSCODING)).retries["a"].priority == BACKFILL


def test_a_forbidden_asset_is_completed() -> None:
    decisions = make_decisions(sync_request(), answer(forbidden="a"))

    assert outcome(decisions) == "complete"
    assert decisions.assets == [AssetWrites(observed_at=NOW, forbidden={"a"})]


def test_an_asset_that_is_missing_and_forbidden_counts_as_missing() -> None:
    decisions = make_decisions(sync_request(priority=MANUAL), answer(missing="a", forbidden="a"))

    assert decisions.assets == [AssetWrites(observed_at=NOW, missing={"a"})]


def test_assets_that_were_not_requested_are_ignored() -> None:
    foreign = element("b", ReferenceId="reference-2")

    decisions = make_decisions(
        sync_request(), answer(FINAL, foreign, missing="c", forbidden="d", missing_references=["reference-3"])
    )

    assert decisions.keys == {"a"}
    assert decisions.assets == [AssetWrites(observed_at=NOW, saved=(typed(FINAL),))]


# Reference ids

BOTH_IDS = element("a", ReferenceId="reference-1")


def test_a_request_by_reference_id_saves_its_asset() -> None:
    decisions = make_decisions(sync_request(REFERENCE), answer(BOTH_IDS))

    assert outcome(decisions, REFERENCE) == "complete"
    assert [media.media_id for media in decisions.assets[0].saved] == ["a"]


def test_an_asset_that_was_requested_by_both_ids_is_saved_once() -> None:
    decisions = make_decisions([sync_request(), sync_request(REFERENCE)], answer(BOTH_IDS))

    assert decisions.completed == {"a", REFERENCE}
    assert len(decisions.assets[0].saved) == 1


def test_each_request_for_an_asset_has_its_own_pause() -> None:
    unfinished = announced("a", ReferenceId="reference-1")

    decisions = make_decisions([sync_request(), sync_request(REFERENCE, waits=1)], answer(unfinished))

    assert [outcome(decisions, key) for key in ("a", REFERENCE)] == [f"2 s: {NOT_ANALYSED}", f"5 s: {NOT_ANALYSED}"]


def test_an_unknown_reference_id_is_a_dead_letter() -> None:
    decisions = make_decisions(sync_request(REFERENCE), answer(missing_references=["reference-1"]))

    assert outcome(decisions, REFERENCE) == "dead letter: VOD knows no asset with this reference id"


def test_an_asset_that_an_earlier_answer_contained_is_known_to_a_later_one() -> None:
    """A batch that was split may request one asset twice: by its reference id and by its media id."""
    requests = [sync_request(REFERENCE), sync_request(priority=MANUAL)]

    after_an_answer = make_decisions(requests, answer(BOTH_IDS), answer(missing="a"))
    without_it = make_decisions(requests, answer(missing="a"))

    assert after_an_answer.assets[1] == AssetWrites(observed_at=NOW + SECOND, missing_if_new={"a"})
    assert without_it.assets[0] == AssetWrites(observed_at=NOW, missing={"a"})


# Requests without an answer

REFUSED = VodRefusedError("no such id", code="InvalidParameter", request_id="4F2A")
BUSY = VodRefusedError("not now", code="Forbidden.IllegalStatus")
DOWN = VodUnavailableError("503", request_id="77")
NOT_MENTIONED = "VOD's answer does not mention this id"


@pytest.mark.parametrize(
    ("request_", "fetched", "expected"),
    [
        ({}, {"refused": {"a": REFUSED}}, "dead letter: no such id (request 4F2A)"),
        ({}, {"refused": {"a": BUSY}}, "2 s: not now"),
        ({"waits": 2}, {"refused": {"a": BUSY}}, "dead letter: not now"),
        ({"priority": MANUAL}, {"refused": {"a": BUSY}}, "dead letter: not now"),
        ({"attempts": 2}, {"put_back": {"a": DOWN}}, "0 s: 503 (request 77)"),
        ({}, {"failed": {"a": DOWN}}, "1 s: 503 (request 77)"),
        ({"attempts": 1}, {"failed": {"a": DOWN}}, "2 s: 503 (request 77)"),
        ({"attempts": 2}, {"failed": {"a": DOWN}}, "dead letter: 503 (request 77)"),
        ({}, {}, f"1 s: {NOT_MENTIONED}"),
        ({"attempts": 2}, {}, f"dead letter: {NOT_MENTIONED}"),
    ],
)
def test_a_request_without_an_answer_is_retried_or_becomes_a_dead_letter(
    request_: dict[str, Any], fetched: dict[str, Any], expected: str
) -> None:
    decisions = make_decisions(sync_request(**request_), answer(), **fetched)

    assert outcome(decisions) == expected
    assert decisions.assets == [AssetWrites(observed_at=NOW)]


def test_only_a_failure_counts_as_an_attempt() -> None:
    requests = [sync_request("failed"), sync_request("put back"), sync_request("missing")]

    decisions = make_decisions(requests, answer(missing=["missing"]), failed={"failed": DOWN}, put_back={"put back": DOWN})

    assert {key: retry.failed for key, retry in decisions.retries.items()} == {"failed": True, "put back": False, "missing": False}


@pytest.mark.parametrize(
    ("answers", "fetched", "expected"),
    [
        ([answer(BOTH_IDS)], {"refused": {REFERENCE: REFUSED}}, "dead letter: no such id (request 4F2A)"),
        ([answer(BOTH_IDS)], {"refused": {REFERENCE: BUSY}}, "complete"),
        ([answer(BOTH_IDS)], {"failed": {REFERENCE: DOWN}}, "complete"),
        (
            [answer(BOTH_IDS), answer(missing_references=["reference-1"])],
            {},
            "dead letter: VOD knows no asset with this reference id",
        ),
        ([answer(announced("a", ReferenceId="reference-1")), answer(BOTH_IDS)], {}, "complete"),
        ([answer(BOTH_IDS), answer(announced("a", ReferenceId="reference-1"))], {}, "complete"),
        ([answer(announced("a", ReferenceId="reference-1"))], {"refused": {REFERENCE: BUSY}}, "2 s: not now"),
    ],
)
def test_the_most_final_of_two_decisions_about_a_request_counts(
    answers: list[Answer], fetched: dict[str, Any], expected: str
) -> None:
    decisions = make_decisions([sync_request(), sync_request(REFERENCE)], *answers, **fetched)

    assert outcome(decisions, REFERENCE) == expected


# The source and GetVideoInfo


@pytest.mark.parametrize(
    ("answers", "fetched", "expected"),
    [
        ([answer(FINAL)], {"probing": True}, (True, None)),
        ([], {"probing": True, "refused": {"a": REFUSED}}, (True, None)),
        ([], {"probing": True, "failed": {"a": DOWN}}, (False, "503")),
        ([], {"probing": True, "put_back": {"a": DOWN}}, (False, None)),
        ([answer(FINAL)], {"probing": True, "put_back": {"b": DOWN}}, (False, None)),
        ([answer(FINAL)], {"probing": False}, (False, None)),
        ([], {"probing": False, "failed": {"a": DOWN}}, (False, None)),
    ],
)
def test_a_source_that_failed_before_recovers_with_an_answer(
    answers: list[Answer], fetched: dict[str, Any], expected: tuple[bool, str | None]
) -> None:
    decisions = make_decisions([sync_request("a"), sync_request("b")], *answers, **fetched)

    assert (decisions.source_recovered, decisions.source_error) == expected


def test_video_info_is_called_with_the_best_priority_of_the_requests() -> None:
    requests = [sync_request(priority=BACKFILL), sync_request(REFERENCE, priority=MANUAL), sync_request("gone")]

    decisions = make_decisions(requests, answer(BOTH_IDS, missing=["gone"]), video_info=True)

    assert decisions.video_info == {"a": MANUAL}


def test_video_info_is_not_called_unless_it_is_switched_on() -> None:
    assert make_decisions(sync_request(), answer(FINAL)).video_info == {}


KEYS = ["a", "b", "c", REFERENCE]


@given(
    claimed=st.sets(st.sampled_from(KEYS), min_size=1),
    answers=st.lists(
        st.fixed_dictionaries({name: st.sets(st.sampled_from("abc")) for name in ("missing", "forbidden")}), max_size=3
    ),
    returned=st.lists(st.sampled_from([FINAL, BOTH_IDS, TRANSCODING, ANNOUNCED, BARE, element("b")]), max_size=3),
    errors=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["refused", "failed", "put_back"])),
    priority=st.sampled_from([LIVE, MANUAL, BACKFILL]),
    attempts=st.integers(0, 3),
)
def test_every_request_has_exactly_one_decision(
    claimed: set[str],
    answers: list[dict[str, set[str]]],
    returned: list[dict[str, Any]],
    errors: dict[str, str],
    priority: int,
    attempts: int,
) -> None:
    errors_by_kind: dict[str, Any] = {"refused": {}, "failed": {}, "put_back": {}}  # fields of FetchResult
    for key, kind in errors.items():
        if key in claimed:
            errors_by_kind[kind][key] = BUSY if kind == "refused" else DOWN
    requests = [sync_request(key, priority=priority, attempts=attempts) for key in claimed]

    decisions = make_decisions(requests, *(answer(*returned, **parts) for parts in answers), **errors_by_kind)

    assert sorted([*decisions.completed, *decisions.retries, *decisions.dead_letters]) == sorted(claimed)
