"""Break one role or connection at one exact moment, for each combination, and check that nothing is lost.

The moments are the commits of a notification, of a claim, of an answer and of the spool. Each test ends with a comparison of
the rows with the emulator's record. The table for operators is docs/failure-modes.md.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from tests.system.fault_harness import LEASE, OUTAGE_KINDS, FaultHarness, start_outage, with_servers
from tests.system.installation import analysed
from tests.system.processes import eventually

MOMENTS = ["before", "during", "after"]

#: The transactions that are interrupted, by a text that their statements contain.
NOTIFICATION = "vod_notification"
CLAIM = "vod_quota+vod_sync_request"
STORE = "vod_raw"
SPOOL = "INSERT INTO spooled"
DRAIN = "DELETE FROM spooled"

OUTAGE = 2.5  # seconds


# The receiver is killed


@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_notification_commit(harness: FaultHarness, moment: str) -> None:
    harness.start_worker()
    receiver = harness.start_receiver(f"{NOTIFICATION}:{moment}:kill")
    notification = harness.new_notification()

    first_status = harness.send(notification)
    exit_code = receiver.wait(within=5)
    stored = harness.deliveries(notification)
    harness.start_receiver()
    second_status = harness.send(notification)

    assert (first_status, exit_code, second_status) == (None, -signal.SIGKILL, 200)
    assert stored in {"before": {0}, "during": {0, 1}, "after": {1}}[moment]
    assert harness.deliveries(notification) == stored + 1
    harness.assert_delivered(notification)


def test_receiver_killed_after_commit_needs_no_second_delivery(harness: FaultHarness) -> None:
    receiver = harness.start_receiver(f"{NOTIFICATION}:after:kill")
    notification = harness.new_notification()

    harness.send(notification)
    receiver.wait(within=5)
    harness.start_worker()

    harness.record_accepted(notification)
    harness.assert_delivered(notification)


@with_servers
@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_spool_commit(harness: FaultHarness, moment: str) -> None:
    harness.start_worker()
    harness.database.cut()
    receiver = harness.start_receiver(f"{SPOOL}:{moment}:kill", ready=False)
    notification = harness.new_notification()

    first_status = harness.send(notification)
    exit_code = receiver.wait(within=5)
    harness.start_receiver(ready=False)
    spooled = harness.installation.http.get("/statusz").json()["spool"]["count"]
    second_status = harness.send(notification)
    harness.database.restore()

    assert (first_status, exit_code, second_status) == (None, -signal.SIGKILL, 200)
    assert spooled in {"before": {0}, "during": {0, 1}, "after": {1}}[moment]
    harness.assert_delivered(notification)


@with_servers
@pytest.mark.parametrize("transaction", [NOTIFICATION, DRAIN])
@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_while_draining_the_spool(harness: FaultHarness, transaction: str, moment: str) -> None:
    harness.database.cut()
    receiver = harness.start_receiver(ready=False)
    notifications = [harness.new_notification() for _ in range(3)]
    statuses = [harness.send(notification) for notification in notifications]
    receiver.kill()

    harness.database.restore()
    second = harness.start("serve", fault=f"{transaction}:{moment}:kill")
    exit_code = second.wait(within=20)
    harness.start_receiver()
    harness.start_worker()

    assert (statuses, exit_code) == ([200] * 3, -signal.SIGKILL)
    harness.assert_delivered(*notifications)
    status = harness.installation.http.get("/statusz").json()
    assert status["spool"]["count"] == 0


# A worker is killed or paused


@pytest.mark.parametrize("transaction", [CLAIM, STORE])
@pytest.mark.parametrize("moment", MOMENTS)
def test_worker_killed_around_commit_of_claim_or_answer(harness: FaultHarness, transaction: str, moment: str) -> None:
    harness.start_receiver()
    worker = harness.start_worker(f"{transaction}:{moment}:kill")
    notifications = [harness.new_notification() for _ in range(3)]

    statuses = [harness.send(notification) for notification in notifications]
    exit_code = worker.wait(within=20)
    all_stored = harness.stored(*notifications)
    calls = harness.calls()
    harness.start_worker()

    assert (statuses, exit_code) == ([200] * 3, -signal.SIGKILL)
    if transaction == CLAIM or moment == "before":
        assert not all_stored
    harness.assert_delivered(*notifications, within=LEASE + 10)
    if (transaction, moment) == (STORE, "after") and all_stored:
        assert harness.calls() == calls


def test_paused_worker_overwrites_nothing_when_it_continues(harness: FaultHarness) -> None:
    harness.start_receiver()
    paused = harness.start_worker(f"{CLAIM}:after:stop")
    notification = harness.new_notification()
    harness.send(notification)
    harness.wait_for_fault()

    harness.start_worker()
    harness.assert_delivered(notification, within=LEASE + 10)
    harness.installation.emulator.post(f"/media/{notification['VideoId']}/change", json={"Title": "newer"}).raise_for_status()
    later = analysed(notification["VideoId"], EventTime="2026-01-01T00:00:00Z", Serial=notification["Serial"] + 100_000)
    harness.send(later)
    harness.assert_delivered(later)
    paused.signal(signal.SIGCONT)
    eventually(
        lambda: "batch synced" in paused.log, within=20, missing=lambda: f"the batch of the paused worker; log:\n{paused.log}"
    )

    harness.assert_delivered(notification, later)


# Beat is killed


def test_assets_are_stored_although_beat_is_killed_around_its_message(harness: FaultHarness) -> None:
    harness.start_receiver()
    harness.start_worker()
    celery = (sys.executable, "-m", "celery", "-A", "worker.queue")
    beats = [harness.start("beat", fault=f"sweep:{moment}:kill", command=celery) for moment in MOMENTS]

    with_beats = harness.new_notification()
    harness.send(with_beats)
    exit_codes = [beat.wait(within=25) for beat in beats]
    without_beats = harness.new_notification()
    harness.send(without_beats)

    assert exit_codes == [-signal.SIGKILL] * 3
    harness.assert_delivered(with_beats, without_beats)


# The database refuses connections or is frozen


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
def test_database_lost_around_notification_commit(harness: FaultHarness, moment: str, kind: str) -> None:
    harness.start_worker()
    harness.start_receiver(f"{NOTIFICATION}:before:hold")
    notification = harness.new_notification()
    statuses: list[int | None] = []

    sender = threading.Thread(target=lambda: statuses.append(harness.send(notification)))
    sender.start()
    harness.wait_for_fault()
    lose_database(harness, moment, kind)
    sender.join()
    during_outage = harness.new_notification()
    statuses.append(harness.send(during_outage))
    time.sleep(OUTAGE)
    harness.database.restore()

    assert statuses == [200, 200]
    harness.assert_delivered(notification, during_outage)
    assert harness.deliveries(notification) in {1, 2}


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
@pytest.mark.parametrize("transaction", [CLAIM, STORE])
def test_database_lost_around_commit_of_claim_or_answer(harness: FaultHarness, transaction: str, moment: str, kind: str) -> None:
    harness.start_receiver()
    harness.start_worker(f"{transaction}:before:hold")
    notification = harness.new_notification()

    status_before = harness.send(notification)
    harness.wait_for_fault()
    lose_database(harness, moment, kind)
    during_outage = harness.new_notification()
    status_during = harness.send(during_outage)
    time.sleep(OUTAGE)
    harness.database.restore()

    assert (status_before, status_during) == (200, 200)
    harness.assert_delivered(notification, during_outage, within=LEASE + 30)


def lose_database(harness: FaultHarness, moment: str, kind: str) -> None:
    """`unanswered`: the server receives the commit, and its response is lost."""
    if moment == "before":
        start_outage(harness.database, kind)
        harness.release()
    else:
        harness.database.block_responses()
        harness.release()
        time.sleep(0.2)
        start_outage(harness.database, kind)


# The broker refuses connections or is frozen


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_broker_lost_before_wake_up(harness: FaultHarness, kind: str) -> None:
    harness.start_worker()
    harness.start_receiver(f"{NOTIFICATION}:after:hold")
    notification = harness.new_notification()
    statuses: list[int | None] = []

    sender = threading.Thread(target=lambda: statuses.append(harness.send(notification)))
    sender.start()
    harness.wait_for_fault()
    start_outage(harness.broker, kind)
    harness.release()
    sender.join()

    assert statuses == [200]
    # The broker is still away: the worker finds the request by its sweep.
    harness.assert_delivered(notification)


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
@pytest.mark.parametrize("transaction", [CLAIM, STORE])
def test_broker_lost_during_batch(harness: FaultHarness, transaction: str, kind: str) -> None:
    harness.start_receiver()
    harness.start_worker(f"{transaction}:before:hold")
    notification = harness.new_notification()

    harness.send(notification)
    harness.wait_for_fault()
    start_outage(harness.broker, kind)
    harness.release()
    harness.assert_delivered(notification)
    harness.broker.restore()
    after_outage = harness.new_notification()
    harness.send(after_outage)

    harness.assert_delivered(notification, after_outage)


# VOD's API refuses connections or is frozen


@pytest.mark.parametrize("kind", OUTAGE_KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
def test_api_lost_around_call(harness: FaultHarness, moment: str, kind: str) -> None:
    harness.start_receiver()
    harness.start_worker(f"{CLAIM}:after:hold")
    notification = harness.new_notification()

    harness.send(notification)
    harness.wait_for_fault()
    if moment == "before":
        start_outage(harness.api, kind)
        harness.release()
    else:
        calls = harness.calls()
        harness.api.block_responses()
        harness.release()
        eventually(lambda: harness.calls() > calls, within=10, missing="a call to the API")
        start_outage(harness.api, kind)
    time.sleep(OUTAGE)
    harness.api.restore()

    harness.assert_delivered(notification, within=40)
