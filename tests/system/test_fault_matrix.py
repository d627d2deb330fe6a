"""Who or what breaks, at which exact moment, and how: one cell after another, and nothing is lost in any of them.

The moments are those of the commits that matter: of a notification, of a claim, of an answer, of the spool. Each cell ends with
the rows compared with what the emulator has on record. The table for operators is docs/failure-modes.md.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from tests.system.fault_harness import KINDS, LEASE, FaultHarness, break_, with_servers
from tests.system.installation import analysed
from tests.system.processes import eventually

MOMENTS = ["before", "during", "after"]

#: The transactions that matter, by what they touch.
NOTIFICATION, CLAIM, STORE = "vod_notification", "vod_quota+vod_sync_request", "vod_raw"
SPOOL, FORGET = "INSERT INTO spooled", "DELETE FROM spooled"

#: Seconds that what is broken stays so.
OUTAGE = 2.5


# The receiver is killed


@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_the_commit_of_a_notification(house: FaultHarness, moment: str) -> None:
    house.worker()
    receiver = house.receiver(f"{NOTIFICATION}:{moment}:kill")
    told = house.news()

    first = house.send(told)
    code = receiver.wait(within=5)
    written = house.deliveries(told)
    house.receiver()
    again = house.send(told)

    assert (first, code, again) == (None, -signal.SIGKILL, 200)
    assert written in {"before": {0}, "during": {0, 1}, "after": {1}}[moment]
    assert house.deliveries(told) == written + 1
    house.assert_promise_kept(told)


def test_receiver_killed_after_the_commit_needs_no_second_delivery(house: FaultHarness) -> None:
    receiver = house.receiver(f"{NOTIFICATION}:after:kill")
    told = house.news()

    house.send(told)
    receiver.wait(within=5)
    house.worker()

    house.promise(told)
    house.assert_promise_kept(told)


@with_servers
@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_the_commit_of_the_spool(house: FaultHarness, moment: str) -> None:
    house.worker()
    house.database.cut()
    receiver = house.receiver(f"{SPOOL}:{moment}:kill", ready=False)
    told = house.news()

    first = house.send(told)
    code = receiver.wait(within=5)
    house.receiver(ready=False)
    spooled = house.installation.http.get("/statusz").json()["spool"]["count"]
    again = house.send(told)
    house.database.restore()

    assert (first, code, again) == (None, -signal.SIGKILL, 200)
    assert spooled in {"before": {0}, "during": {0, 1}, "after": {1}}[moment]
    house.assert_promise_kept(told)


@with_servers
@pytest.mark.parametrize("transaction", [NOTIFICATION, FORGET])
@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_while_it_empties_the_spool(house: FaultHarness, transaction: str, moment: str) -> None:
    house.database.cut()
    first = house.receiver(ready=False)
    told = [house.news() for _ in range(3)]
    answers = [house.send(each) for each in told]
    first.kill()

    house.database.restore()
    second = house.start("serve", strike=f"{transaction}:{moment}:kill")
    code = second.wait(within=20)
    house.receiver()
    house.worker()

    assert (answers, code) == ([200] * 3, -signal.SIGKILL)
    house.assert_promise_kept(*told)
    status = house.installation.http.get("/statusz").json()
    assert status["spool"]["count"] == 0


# A worker is killed, or stands still


@pytest.mark.parametrize("transaction", [CLAIM, STORE])
@pytest.mark.parametrize("moment", MOMENTS)
def test_worker_killed_around_the_commit_of_a_claim_or_an_answer(house: FaultHarness, transaction: str, moment: str) -> None:
    house.receiver()
    worker = house.worker(f"{transaction}:{moment}:kill")
    told = [house.news() for _ in range(3)]

    answers = [house.send(each) for each in told]
    code = worker.wait(within=20)
    there = house.stored(*told)
    calls = house.calls()
    house.worker()

    assert (answers, code) == ([200] * 3, -signal.SIGKILL)
    if transaction == CLAIM or moment == "before":
        assert not there
    house.assert_promise_kept(*told, within=LEASE + 10)
    if (transaction, moment) == (STORE, "after") and there:
        assert house.calls() == calls


def test_worker_that_stands_still_is_overtaken_and_changes_nothing_when_it_wakes_up(house: FaultHarness) -> None:
    house.receiver()
    sleeper = house.worker(f"{CLAIM}:after:stop")
    told = house.news()
    house.send(told)
    house.struck()

    house.worker()
    house.assert_promise_kept(told, within=LEASE + 10)
    house.installation.emulator.post(f"/media/{told['VideoId']}/change", json={"Title": "newer"}).raise_for_status()
    later = analysed(told["VideoId"], EventTime="2026-01-01T00:00:00Z", Serial=told["Serial"] + 100_000)
    house.send(later)
    house.assert_promise_kept(later)
    sleeper.signal(signal.SIGCONT)
    eventually(lambda: "batch synced" in sleeper.log, within=20, missing=lambda: f"the sleeper's batch; log:\n{sleeper.log}")

    house.assert_promise_kept(told, later)


# Beat is killed


def test_beats_killed_around_their_message_are_not_missed(house: FaultHarness) -> None:
    house.receiver()
    house.worker()
    celery = (sys.executable, "-m", "celery", "-A", "worker.queue")
    beats = [house.start("beat", strike=f"sweep:{moment}:kill", command=celery) for moment in MOMENTS]

    with_beats = house.news()
    house.send(with_beats)
    codes = [beat.wait(within=25) for beat in beats]
    without_beats = house.news()
    house.send(without_beats)

    assert codes == [-signal.SIGKILL] * 3
    house.assert_promise_kept(with_beats, without_beats)


# The database refuses, or says nothing


@with_servers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
def test_database_lost_around_the_commit_of_a_notification(house: FaultHarness, moment: str, kind: str) -> None:
    house.worker()
    house.receiver(f"{NOTIFICATION}:before:hold")
    told = house.news()
    answers: list[int | None] = []

    sender = threading.Thread(target=lambda: answers.append(house.send(told)))
    sender.start()
    house.struck()
    lose_database(house, moment, kind)
    sender.join()
    during = house.news()
    answers.append(house.send(during))
    time.sleep(OUTAGE)
    house.database.restore()

    assert answers == [200, 200]
    house.assert_promise_kept(told, during)
    assert house.deliveries(told) in {1, 2}


@with_servers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
@pytest.mark.parametrize("transaction", [CLAIM, STORE])
def test_database_lost_around_the_commit_of_a_claim_or_an_answer(
    house: FaultHarness, transaction: str, moment: str, kind: str
) -> None:
    house.receiver()
    house.worker(f"{transaction}:before:hold")
    told = house.news()

    before = house.send(told)
    house.struck()
    lose_database(house, moment, kind)
    during = house.news()
    answer = house.send(during)
    time.sleep(OUTAGE)
    house.database.restore()

    assert (before, answer) == (200, 200)
    house.assert_promise_kept(told, during, within=LEASE + 30)


def lose_database(house: FaultHarness, moment: str, kind: str) -> None:
    """`unanswered`: the server hears the commit, and its answer is lost."""
    if moment == "before":
        break_(house.database, kind)
        house.release()
    else:
        house.database.mute()
        house.release()
        time.sleep(0.2)
        break_(house.database, kind)


# The broker refuses, or says nothing


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_broker_lost_before_the_wake_up(house: FaultHarness, kind: str) -> None:
    house.worker()
    house.receiver(f"{NOTIFICATION}:after:hold")
    told = house.news()
    answers: list[int | None] = []

    sender = threading.Thread(target=lambda: answers.append(house.send(told)))
    sender.start()
    house.struck()
    break_(house.broker, kind)
    house.release()
    sender.join()

    assert answers == [200]
    # Without the broker's help: it is still away.
    house.assert_promise_kept(told)


@with_servers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transaction", [CLAIM, STORE])
def test_broker_lost_while_a_batch_is_worked_on(house: FaultHarness, transaction: str, kind: str) -> None:
    house.receiver()
    house.worker(f"{transaction}:before:hold")
    told = house.news()

    house.send(told)
    house.struck()
    break_(house.broker, kind)
    house.release()
    house.assert_promise_kept(told)
    house.broker.restore()
    after = house.news()
    house.send(after)

    house.assert_promise_kept(told, after)


# VOD's API refuses, or says nothing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "unanswered"])
def test_api_lost_around_a_call(house: FaultHarness, moment: str, kind: str) -> None:
    house.receiver()
    house.worker(f"{CLAIM}:after:hold")
    told = house.news()

    house.send(told)
    house.struck()
    if moment == "before":
        break_(house.api, kind)
        house.release()
    else:
        calls = house.calls()
        house.api.mute()
        house.release()
        eventually(lambda: house.calls() > calls, within=10, missing="a call that the API answers")
        break_(house.api, kind)
    time.sleep(OUTAGE)
    house.api.restore()

    house.assert_promise_kept(told, within=40)
