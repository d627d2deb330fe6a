"""Who or what breaks, at which exact moment, and how: one cell after another, and nothing is lost in any of them.

The moments are those of the commits that matter: of a notification, of a claim, of an answer, of the spool. Each cell ends with
the rows compared with what the emulator has on record. The table for operators is docs/failure-modes.md.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import pace
from tests.chaos.promise import broken
from tests.chaos.senders import Ledger, Told
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import VODSYNC, Process, eventually
from tests.system.proxy import Proxy, proxied

MOMENTS = ["before", "during", "after"]
KINDS = ["refuse", "freeze"]
SERVERS = ["postgresql-rabbitmq", "mariadb-redis"]

#: The transactions that matter, by what they touch.
NOTIFICATION, CLAIM, STORE = "vod_notification", "vod_quota+vod_sync_request", "vod_raw"
SPOOL, FORGET = "INSERT INTO spooled", "DELETE FROM spooled"

#: Seconds. VOD waits five for an answer; what is broken stays so for a while.
PATIENCE, OUTAGE = 2.0, 2.5

LEASE = 2

_OWED = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"


class House:
    """An installation whose roles reach database, broker and API through proxies, and die on command; the test itself does not."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.ledger = Ledger()
        self._urls: dict[str, str] = {}
        installation.start_emulator("--media", "900", telling=False)
        self._library: Iterator[str] = iter(installation.emulator.get("/media?limit=900").json()["media_ids"])
        self.api = self._proxy("VODSYNC_ENDPOINT")
        if "VODSYNC_BROKER_URL" in installation.settings:
            self.database = self._proxy("VODSYNC_DATABASE_URL")
            self.broker = self._proxy("VODSYNC_BROKER_URL")
        self._serial = itertools.count(1)
        self._roles: list[Process] = []
        self._names = itertools.count(1)

    def _proxy(self, setting: str) -> Proxy:
        proxy, self._urls[setting] = proxied(self.installation.settings[setting])
        return proxy

    # Roles

    def start(self, role: str, *, strike: str | None = None, command: Sequence[str] = VODSYNC, **more: str) -> Process:
        """With `strike` (as in striking/sitecustomize.py) it is struck once, at that moment."""
        name = f"{next(self._names)}-{role}"
        settings = self._urls | more
        if strike:
            self.sign = self.installation.folder / f"{name}.struck"
            striking = str(Path(__file__).with_name("striking"))
            settings |= {"STRIKE_AT": strike, "STRIKE_SIGN": str(self.sign), "PYTHONPATH": striking}
        process = self.installation.start(name, role, command=command, **settings)
        self._roles.append(process)
        return process

    def receiver(self, strike: str | None = None, *, ready: bool = True) -> Process:
        process = self.start("serve", strike=strike)
        path = "/readyz" if ready else "/livez"
        eventually(lambda: self._answers(path), within=20, missing=lambda: f"200 from {path}; log:\n{process.log[-3000:]}")
        return process

    def worker(self, strike: str | None = None) -> Process:
        return self.start("work", strike=strike)

    def struck(self) -> None:
        """Wait until the blow has fallen."""
        eventually(self.sign.exists, within=20, missing=lambda: f"the blow; logs:\n{self.installation.logs()[-4000:]}", pause=0.005)

    def release(self) -> None:
        """Let go of the role that is held."""
        self.sign.unlink()

    def clear(self) -> None:
        """What the next cell needs: no role, and everything else as it should be."""
        for proxy in (self.api, *((self.database, self.broker) if hasattr(self, "broker") else ())):
            proxy.restore()
        for role in self._roles:
            role.signal(signal.SIGCONT)
            role.kill()
        self._roles.clear()

    def close(self) -> None:
        self.clear()
        # Killed with intent; what else ended is looked at by the installation.
        self.installation.processes = {"emulator": self.installation.processes["emulator"]}

    # VOD

    def news(self) -> dict[str, Any]:
        """A notification of a medium that nobody was told of yet."""
        return analysed(next(self._library), Serial=next(self._serial))

    def send(self, body: dict[str, Any]) -> int | None:
        """The status; None where no answer came. What was answered 200 is promised from now on."""
        began = pace.seconds()
        try:
            status = self.installation.notify(body).status_code
        except httpx.TransportError:
            return None
        assert pace.seconds() - began < PATIENCE
        if status == 200:
            self.promise(body)
        return status

    def promise(self, body: dict[str, Any]) -> None:
        self.ledger.answered.add(body["Serial"])
        told = self.ledger.media.setdefault(body["VideoId"], Told())
        told.answered, told.current = told.answered + 1, True

    # What came of it

    def deliveries(self, body: dict[str, Any]) -> int:
        """How often the notification was written down."""
        rows = self.installation.database.rows(
            "SELECT body, deliveries FROM vod_notification WHERE media_id = :id", id=body["VideoId"]
        )
        return sum(row["deliveries"] for row in rows if json.loads(row["body"])["Serial"] == body["Serial"])

    def stored(self, *bodies: dict[str, Any]) -> bool:
        """Whether each of these media has its rows, and nothing is owed any more but a look at what VOD is still at work on."""
        database = self.installation.database
        ok = {row["media_id"] for row in database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}
        return all(body["VideoId"] in ok for body in bodies) and not database.value(_OWED)

    def calls(self) -> int:
        return int(self.installation.calls()["calls"])

    def assert_promise_kept(self, *bodies: dict[str, Any], within: float = 25) -> None:
        """Wait until everything has arrived, then compare it with the record."""
        eventually(lambda: self.stored(*bodies), within=within, missing=lambda: f"rows; logs:\n{self.installation.logs()[-6000:]}")
        assert broken(self.installation, self.ledger) == []
        assert {body["VideoId"] for body in bodies} <= self.ledger.media.keys()

    def _answers(self, path: str) -> bool:
        with suppress(httpx.TransportError):
            return self.installation.http.get(path).status_code == 200
        return False


def _house(pair: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installed(PAIRS[pair], tmp_path_factory.mktemp(pair), VODSYNC_LEASE=str(LEASE)) as ready:
        made = House(ready)
        yield made
        made.close()


@pytest.fixture(scope="module", params=list(PAIRS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from _house(request.param, tmp_path_factory)


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """Any of the three pairs."""
    yield shared
    shared.clear()


#: Where database and broker are servers; SQLite and the embedded broker have none to lose.
with_servers = pytest.mark.parametrize("shared", SERVERS, indirect=True)


def break_(proxy: Proxy, kind: str) -> None:
    {"refuse": proxy.cut, "freeze": proxy.freeze}[kind]()


# The receiver is killed


@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_the_commit_of_a_notification(house: House, moment: str) -> None:
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


def test_receiver_killed_after_the_commit_needs_no_second_delivery(house: House) -> None:
    receiver = house.receiver(f"{NOTIFICATION}:after:kill")
    told = house.news()

    house.send(told)
    receiver.wait(within=5)
    house.worker()

    house.promise(told)
    house.assert_promise_kept(told)


@with_servers
@pytest.mark.parametrize("moment", MOMENTS)
def test_receiver_killed_around_the_commit_of_the_spool(house: House, moment: str) -> None:
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
def test_receiver_killed_while_it_empties_the_spool(house: House, transaction: str, moment: str) -> None:
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
def test_worker_killed_around_the_commit_of_a_claim_or_an_answer(house: House, transaction: str, moment: str) -> None:
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


def test_worker_that_stands_still_is_overtaken_and_changes_nothing_when_it_wakes_up(house: House) -> None:
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


def test_beats_killed_around_their_message_are_not_missed(house: House) -> None:
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
def test_database_lost_around_the_commit_of_a_notification(house: House, moment: str, kind: str) -> None:
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
def test_database_lost_around_the_commit_of_a_claim_or_an_answer(house: House, transaction: str, moment: str, kind: str) -> None:
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


def lose_database(house: House, moment: str, kind: str) -> None:
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
def test_broker_lost_before_the_wake_up(house: House, kind: str) -> None:
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
def test_broker_lost_while_a_batch_is_worked_on(house: House, transaction: str, kind: str) -> None:
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
def test_api_lost_around_a_call(house: House, moment: str, kind: str) -> None:
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
