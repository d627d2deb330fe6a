"""Other programs request fetches with plain JSON on a queue, and no request is lost, whatever breaks."""

from __future__ import annotations

import json
import signal
import time

import pytest
import sqlalchemy as sa

from tests.system.fault_harness import OUTAGE_KINDS, FaultHarness, start_outage, with_servers
from tests.system.installation import analysed
from tests.system.processes import eventually
from tests.system.reprocess_queue import REJECTED, REPROCESS, REQUEST, Library, Queues, start_consumer, wait_for, wait_for_queue

# Requests


def test_plain_json_messages_lead_to_stored_assets(harness: FaultHarness, queues: Queues, library: Library) -> None:
    start_consumer(harness)
    ids = library(7)

    queues.push({"media_ids": ids[:2]})
    queues.push({"source": "default", "media_ids": ids[1:3], "reference_ids": [], "reason": "re-encoded", "priority": "backfill"})
    queues.push(b"\xef\xbb\xbf" + json.dumps({"media_ids": ids[3:4]}, indent=2).encode() + b"\r\n")
    queues.publish({"media_ids": ids[4:5], "priority": "live"})
    queues.publish(json.dumps({"media_ids": ids[5:6]}), content_type="text/plain", content_encoding="utf-8")
    queues.publish({"media_ids": ids[6:]}, priority=9, compression="zlib", headers={"x": 1})

    wait_for(harness, ids)


def test_reference_id_is_accepted_instead_of_media_id(harness: FaultHarness, queues: Queues, library: Library) -> None:
    start_consumer(harness)
    elements = harness.installation.emulator.post("/record", json=library(20)).json()["media"]
    media_id, reference_id = next(
        (media_id, element["MediaInfo"]["ReferenceId"])
        for media_id, element in elements.items()
        if "ReferenceId" in element["MediaInfo"]
    )

    queues.push({"reference_ids": [reference_id]})

    wait_for(harness, [media_id])


@pytest.mark.parametrize("shared_harness", ["postgresql-rabbitmq"], indirect=True)
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"content_type": "application/json"},
        {"content_type": "text/plain"},
        {"content_type": "application/json", "content_encoding": "utf-8"},
    ],
)
def test_content_type_of_a_message_is_ignored(
    harness: FaultHarness, queues: Queues, library: Library, properties: dict[str, str]
) -> None:
    start_consumer(harness)
    ids = library(2)

    queues.push_with_properties(json.dumps({"media_ids": ids[:1]}).encode(), **properties)
    queues.push_with_properties(b"\xef\xbb\xbf" + json.dumps({"media_ids": ids[1:]}).encode(), **properties)

    wait_for(harness, ids)


@pytest.mark.parametrize("shared_harness", ["postgresql-rabbitmq"], indirect=True)
def test_queue_declared_by_another_client_is_used(harness: FaultHarness, queues: Queues, library: Library) -> None:
    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)
        connection.default_channel.queue_declare(REPROCESS, durable=True, auto_delete=False)
    ids = library(1)

    queues.push({"media_ids": ids})
    harness.start_worker()

    wait_for(harness, ids)
    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)


@pytest.mark.parametrize("shared_harness", ["postgresql-rabbitmq"], indirect=True)
def test_deleted_queue_is_declared_again(harness: FaultHarness, queues: Queues, library: Library) -> None:
    start_consumer(harness)
    ids = library(1)

    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)
        connection.default_channel.queue_delete(REJECTED)
    wait_for_queue(harness)
    queues.push({"media_ids": ids})

    wait_for(harness, ids)


# Rejected messages


def test_unreadable_messages_are_moved_to_rejected_queue_with_reason(
    harness: FaultHarness, queues: Queues, library: Library
) -> None:
    worker = start_consumer(harness)
    valid_ids = library(2)
    invalid = {
        b"no json at all, s3cret": "not a JSON text",
        b'{"media_ids": ["a"]': "not a JSON text",
        b'["a"]': "Expected `object`, got `array`",
        b'{"media_ids": "a"}': "at `$.media_ids`",
        b'{"media_ids": []}': "names no media",
        json.dumps({"media_ids": [*valid_ids, "a b"]}).encode(): "media_ids[2] = 'a b'",
        b'{"media_ids": ["a"], "source": "nowhere"}': "unknown source 'nowhere'; known are: default",
        b'{"media_ids": ["\xff\xfe"]}': "not a JSON text in UTF-8",
        '{"media_ids": ["ä"]}'.encode(): "media_ids[0] = 'ä'",
    }

    for body in invalid:
        queues.push(body)
    rejected = dict(queues.rejected(len(invalid)))

    assert rejected.keys() == invalid.keys()
    assert [(body, reason) for body, reason in rejected.items() if invalid[body] not in reason] == []
    # The worker publishes a rejected message before it logs the rejection.
    eventually(
        lambda: worker.log.count("message rejected") == len(invalid),
        within=10,
        missing=lambda: f"a log line for each rejected message; {worker.log}",
    )
    assert "s3cret" not in harness.installation.logs()
    assert harness.installation.database.rows("SELECT * FROM vod_media WHERE media_id IN ('a', :good)", good=valid_ids[0]) == []
    queues.push({"media_ids": valid_ids})
    wait_for(harness, valid_ids)


# Faults


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_worker_killed_around_commit_loses_no_message(harness: FaultHarness, queues: Queues, library: Library, moment: str) -> None:
    worker = start_consumer(harness, f"{REQUEST}:{moment}:kill")
    ids = library(20)

    queues.push({"media_ids": ids})
    exit_code = worker.wait(within=20)
    requested = {row["media_id"] for row in harness.installation.database.table("vod_sync_request")} & set(ids)
    harness.start_worker()

    assert exit_code == -signal.SIGKILL
    assert len(requested) in {"before": {0}, "during": {0, 20}, "after": {20}}[moment]
    # On Redis the messages of the killed worker are redelivered after 20 s.
    wait_for(harness, ids, within=60)


def test_worker_killed_with_many_messages_loses_none(harness: FaultHarness, queues: Queues, library: Library) -> None:
    ids = library(60)
    worker = start_consumer(harness, f"{REQUEST}:before:kill")
    for media_id in ids[:30]:
        queues.push({"media_ids": [media_id]})
    for media_id in ids[30:]:
        queues.publish({"media_ids": [media_id]})

    worker.wait(within=20)
    harness.start_worker()

    wait_for(harness, ids, within=60)


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_database_outage_delays_and_loses_nothing(harness: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    worker = start_consumer(harness)
    ids = library(3)

    start_outage(harness.database, kind)
    for media_id in ids:
        queues.push({"media_ids": [media_id]})
    eventually(lambda: "their messages wait" in worker.log, within=40, missing=lambda: worker.log[-3000:])
    queues.push(b"not json")
    [(_, reason)] = queues.rejected(1)
    harness.database.restore()

    wait_for(harness, ids)
    assert "not a JSON text" in reason
    assert "database takes requests again" in worker.log


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_database_lost_around_commit_delays_and_loses_nothing(
    harness: FaultHarness, queues: Queues, library: Library, kind: str
) -> None:
    start_consumer(harness, f"{REQUEST}:before:hold")
    ids = library(3)

    queues.push({"media_ids": ids})
    harness.wait_for_fault()
    start_outage(harness.database, kind)
    harness.release()
    time.sleep(2)
    harness.database.restore()

    wait_for(harness, ids, within=60)


@pytest.mark.parametrize("shared_harness", ["sqlite-embedded"], indirect=True)
def test_locked_database_file_delays_and_loses_nothing(harness: FaultHarness, queues: Queues, library: Library) -> None:
    start_consumer(harness)
    ids = library(3)
    engine = sa.create_engine(harness.installation.settings["VODSYNC_DATABASE_URL"])

    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        queues.push({"media_ids": ids})
        time.sleep(7)
    engine.dispose()

    wait_for(harness, ids)


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_worker_consumes_again_after_broker_outage(harness: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    worker = start_consumer(harness)
    ids = library(3)

    queues.push({"media_ids": ids[:1]})
    wait_for(harness, ids[:1])
    start_outage(harness.broker, kind)
    queues.push({"media_ids": ids[1:2]})
    time.sleep(4)
    harness.broker.cut()
    harness.broker.restore()
    queues.push({"media_ids": ids[2:]})

    wait_for(harness, ids, within=60)
    assert worker.running


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_worker_started_without_broker_works_and_stops(harness: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    first = start_consumer(harness)
    assert first.stop() == 0
    start_outage(harness.broker, kind)
    worker = harness.start_worker()
    ids = library(2)

    harness.start_receiver()
    harness.installation.notify(analysed(ids[0], EventTime="2026-01-01T00:00:00Z"))
    wait_for(harness, ids[:1])
    queues.push({"media_ids": ids[1:]})
    harness.broker.cut()
    harness.broker.restore()

    wait_for(harness, ids, within=60)
    assert worker.stop(within=20) == 0


def test_stopped_worker_returns_unstored_messages(harness: FaultHarness, queues: Queues, library: Library) -> None:
    ids = library(30)
    worker = start_consumer(harness)

    for media_id in ids:
        queues.push({"media_ids": [media_id]})
    exit_code = worker.stop()
    harness.start_worker()

    assert exit_code == 0
    wait_for(harness, ids, within=60)
