"""Parameters and checkpoints have the JSON of release 0.1.0, so that a job continues after an upgrade or a downgrade."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.builders import NOON
from worker.store.inbox.notification_log import NotificationFilter
from worker.store.jobs.job_rows import Job, JobState
from worker.sync.jobs import backfill, reconcile, renormalise, replay
from worker.sync.jobs import reconcile_phases as phases
from worker.sync.jobs.paging import BEGIN, Cursor
from worker.sync.jobs.step import JobFormatError, from_json, to_json

JOB = Job(7, "default", "reconcile", JobState.RUNNING, {}, None, {}, NOON, NOON, None, None)

CURSOR_JSON = """{"low": "2000-01-01T00:00:00+00:00", "high": "2026-03-01T11:45:35+00:00", "page": 3, "total": 322,
    "reached": "2025-06-01T00:00:00+00:00", "ordered": true, "scrolling": false, "token": null, "restarts": 0,
    "later": [["2026-03-01T11:45:35+00:00", "2099-12-31T23:59:59+00:00"]], "over": false}"""
CURSOR = Cursor(
    low=BEGIN,
    high=datetime(2026, 3, 1, 11, 45, 35, tzinfo=UTC),
    page=3,
    total=322,
    reached=datetime(2025, 6, 1, tzinfo=UTC),
    later=((datetime(2026, 3, 1, 11, 45, 35, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),),
)
LAST_CURSOR_JSON = """{"low": "2026-03-01T11:45:35+00:00", "high": "2099-12-31T23:59:59+00:00", "page": 1, "total": null,
    "reached": "2000-01-01T00:00:00+00:00", "ordered": true, "scrolling": true, "token": "abc", "restarts": 2,
    "later": [], "over": true}"""

EXAMPLES_JSON = '{"missed": ["m1", "m2"], "changed": ["m3"], "gone": ["m4"]}'
EXAMPLES = phases.Examples(missed=("m1", "m2"), changed=("m3",), gone=("m4",))
#: Keys that release 0.1.0 left in the checkpoint after the last page of a full listing.
LEFT_JSON = f'"since": null, "type": "audio", "position": {LAST_CURSOR_JSON}, "examples": {EXAMPLES_JSON}'
FIRST_CALL_AT = datetime(2026, 11, 28, 16, 30, 2, 44000, tzinfo=UTC)
ASKED_JSON = '"asked_at": "2026-11-28T16:30:02.044000+00:00"'
SINCE = datetime(2026, 3, 1, 11, 45, 35, 120000, tzinfo=UTC)
SINCE_JSON = '"since": "2026-03-01T11:45:35.120000+00:00"'

#: Checkpoints as release 0.1.0 wrote them, and what they mean.
BACKFILL = [
    ('{"phase": "total", "types": ["audio"]}', backfill.CountTotal(media_types=("audio",))),
    (
        '{"phase": "total", "types": ["video", "audio"], "totals": {"video": 320}}',
        backfill.CountTotal(media_types=("video", "audio"), totals={"video": 320}),
    ),
    (
        f'{{"phase": "list", "types": ["video", "audio"], "type": "video", "position": {CURSOR_JSON}}}',
        backfill.ListMedia(media_types=("video", "audio"), media_type="video", cursor=CURSOR),
    ),
    ('{"phase": "fetch"}', backfill.AwaitFetches()),
]
RECONCILE = [
    ('{"phase": "total", "since": null, "examples": {}}', phases.CountTotal()),
    (
        f'{{"phase": "total", "since": null, "examples": {EXAMPLES_JSON}, "totals": {{"video": 322}}}}',
        phases.CountTotal(examples=EXAMPLES, totals={"video": 322}),
    ),
    (
        f'{{"phase": "list", "since": null, "type": "video", "position": {CURSOR_JSON}, "examples": {{}}}}',
        phases.ListMedia(media_type="video", cursor=CURSOR),
    ),
    (
        f'{{"phase": "list", {SINCE_JSON}, "type": "audio", "position": {CURSOR_JSON}, "examples": {EXAMPLES_JSON}}}',
        phases.ListMedia(since=SINCE, media_type="audio", cursor=CURSOR, examples=EXAMPLES),
    ),
    (
        f'{{"phase": "settle", {SINCE_JSON}, "type": "audio", "position": {LAST_CURSOR_JSON}, "examples": {EXAMPLES_JSON}}}',
        phases.AwaitFetches(examples=EXAMPLES),
    ),
    ('{"phase": "count", "examples": {}}', phases.CompareCounts()),
    (
        f'{{"phase": "count", "examples": {EXAMPLES_JSON}, "totals": {{"video": 326}}}}',
        phases.CompareCounts(examples=EXAMPLES, totals={"video": 326}),
    ),
    (f'{{"phase": "compare", {LEFT_JSON}}}', phases.FindSuspects(examples=EXAMPLES)),
    (f'{{"phase": "compare", {LEFT_JSON}, "compared": "m9"}}', phases.FindSuspects(examples=EXAMPLES, after="m9")),
    (f'{{"phase": "ask", {LEFT_JSON}, "compared": "m9"}}', phases.VerifySuspects(examples=EXAMPLES)),
    (
        f'{{"phase": "ask", {LEFT_JSON}, {ASKED_JSON}, "limit": 5}}',
        phases.VerifySuspects(examples=EXAMPLES, limit=5, first_call_at=FIRST_CALL_AT),
    ),
    (
        f'{{"phase": "mark", {LEFT_JSON}, {ASKED_JSON}, "limit": 20}}',
        phases.MarkDeleted(examples=EXAMPLES, first_call_at=FIRST_CALL_AT),
    ),
    (f'{{"phase": "fetch", {LEFT_JSON}, {ASKED_JSON}, "limit": 20}}', phases.AwaitLastFetches(examples=EXAMPLES)),
    ('{"phase": "fetch", "examples": {}, "totals": {"video": 326}}', phases.AwaitLastFetches()),
]
REPLAY = [('{"id": 12, "until": 40}', replay.Checkpoint(last_id=12, final_id=40))]
RENORMALISE = [('{"media_id": "m2"}', renormalise.Checkpoint("m2"))]

#: The keys without which release 0.1.0 cannot continue, by kind and phase.
NEEDED = {
    ("backfill", "total"): {"types"},
    ("backfill", "list"): {"types", "type", "position"},
    ("backfill", "fetch"): set[str](),
    ("reconcile", "total"): {"since", "examples"},
    ("reconcile", "list"): {"since", "type", "position", "examples"},
    ("reconcile", "settle"): {"examples"},
    ("reconcile", "count"): {"examples"},
    ("reconcile", "compare"): {"examples"},
    ("reconcile", "ask"): {"examples"},
    ("reconcile", "mark"): {"examples", "asked_at"},
    ("reconcile", "fetch"): {"examples"},
    ("replay", None): {"id", "until"},
    ("renormalise", None): {"media_id"},
}

ALL = [
    *(("backfill", backfill.Checkpoint, *case) for case in BACKFILL),
    *(("reconcile", phases.Checkpoint, *case) for case in RECONCILE),
    *(("replay", replay.Checkpoint, *case) for case in REPLAY),
    *(("renormalise", renormalise.Checkpoint, *case) for case in RENORMALISE),
]
IDS = [f"{kind}-{json.loads(stored).get('phase')}-{number}" for number, (kind, _, stored, _) in enumerate(ALL)]


@pytest.mark.parametrize(("kind", "expected_type", "stored", "meaning"), ALL, ids=IDS)
def test_a_checkpoint_of_release_0_1_is_read(kind: str, expected_type: Any, stored: str, meaning: msgspec.Struct) -> None:
    assert from_json(json.loads(stored), expected_type, JOB) == meaning


@pytest.mark.parametrize(("kind", "expected_type", "stored", "meaning"), ALL, ids=IDS)
def test_a_checkpoint_that_is_written_today_can_be_read_by_release_0_1(
    kind: str, expected_type: Any, stored: str, meaning: msgspec.Struct
) -> None:
    """Phases and values have its form, and all keys that it needs are there."""
    expected = json.loads(stored)

    written = json.loads(json.dumps(to_json(meaning)))

    assert NEEDED[kind, expected.get("phase")] <= written.keys()
    assert written.get("phase") == expected.get("phase")
    assert {key: written[key] for key in written.keys() & expected.keys()} == {
        key: expected[key] for key in written.keys() & expected.keys()
    }
    # Keys that it did not write have the values that it assumes.
    assumed = {"totals": {}, "compared": "", "limit": 20, "asked_at": None}
    assert all(written[key] == assumed[key] for key in written.keys() - expected.keys())


def test_every_phase_of_every_kind_is_covered() -> None:
    """`NEEDED` lists all phases, and each has an example."""
    unions = {"backfill": backfill.Checkpoint, "reconcile": phases.Checkpoint}
    tags = {(kind, struct.__struct_config__.tag) for kind, union in unions.items() for struct in union.__args__}

    assert tags | {("replay", None), ("renormalise", None)} == NEEDED.keys()
    assert NEEDED.keys() == {(kind, json.loads(stored).get("phase")) for kind, _, stored, _ in ALL}


def test_parameters_of_release_0_1_are_read() -> None:
    backfilled = {"since": "2026-01-31T12:00:00+00:00", "until": None, "status": ["Normal"], "type": ["video"], "dry_run": True}
    reconciled = {"full": True, "allow_mass_delete": False, "dry_run": False}
    replayed = {"since": None, "until": "2026-01-31T12:00:00+00:00", "event_type": "TranscodeComplete", "media_id": "m1"}
    time = datetime(2026, 1, 31, 12, tzinfo=UTC)

    assert from_json(backfilled, backfill.Parameters, JOB) == backfill.Parameters(
        since=time, statuses=("Normal",), media_types=("video",), dry_run=True
    )
    assert from_json(reconciled, phases.Parameters, JOB) == phases.Parameters(full=True)
    assert from_json(replayed, NotificationFilter, JOB) == NotificationFilter(None, time, "TranscodeComplete", "m1")
    assert to_json(from_json(backfilled, backfill.Parameters, JOB)) == backfilled
    assert to_json(from_json(reconciled, phases.Parameters, JOB)) == reconciled
    assert replay.parameters(from_json(replayed, NotificationFilter, JOB)) == replayed


def test_a_phase_of_a_later_release_is_an_error_that_names_the_next_step() -> None:
    with pytest.raises(JobFormatError, match="upgrade this worker, or cancel the job: vodsync jobs cancel 7"):
        from_json({"phase": "later"}, phases.Checkpoint, JOB)


def test_examples_keep_the_first_five_ids_of_each_counter() -> None:
    examples = phases.Examples(missed=("a", "b"))

    added = examples.add(missed=["c", "d", "e", "f"], gone=["g"])

    assert added == phases.Examples(missed=("a", "b", "c", "d", "e"), gone=("g",))
    assert examples.missed == ("a", "b")


def test_failing_time_counts_only_while_the_last_step_failed() -> None:
    failed = replace(JOB, last_error="away", updated_at=NOON - timedelta(seconds=30))

    assert reconcile._Run(failed, phases.Parameters(), NOON).failing_for == timedelta(seconds=30)
    assert reconcile._Run(JOB, phases.Parameters(), NOON + timedelta(seconds=30)).failing_for == timedelta(0)
