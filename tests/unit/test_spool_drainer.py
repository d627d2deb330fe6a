"""Move spooled notifications to the database, step by step: the test decides when the next try starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.builders import NOON, body
from worker.background import BackgroundLoop
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.outage import Outage
from worker.store import Store, schema
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool
from worker.sync.receive import delivery
from worker.web import spool_drainer as spool_drainer
from worker.web.spool_drainer import SpoolDrainer

#: Seconds after which a wait fails the test.
DEADLINE = 10


class SteppedTime:
    """The time of the drainer. A pause ends when the test has advanced the time to its end."""

    def __init__(self) -> None:
        self._now = 0.0
        self._limit = 0.0
        self._asleep = False
        self._changed = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    def pause(self, loop: BackgroundLoop, seconds: float) -> bool:
        wake_at = self._now + seconds
        with self._changed:
            while self._limit < wake_at:
                self._asleep = True
                self._changed.notify_all()
                self._changed.wait(DEADLINE)
            self._now = wake_at
            self._asleep = False
        return loop.is_stopping

    def wait_until_asleep(self) -> None:
        """Return when the drainer waits for its next try."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._asleep, DEADLINE), "the drainer does not try again"

    def advance(self, seconds: float) -> None:
        with self._changed:
            self._limit += seconds
            self._asleep = False
            self._changed.notify_all()


class Database:
    """The database that the drainer writes to. Raises `error` if that is set, and records what it accepted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.groups: list[list[str | None]] = []
        self.before_move: Callable[[], object] = lambda: None

    def __call__(self, deliveries: Sequence[Delivery]) -> None:
        self.before_move()
        if self.error is not None:
            raise self.error
        self.groups.append([delivery.media_id for delivery in deliveries])

    @property
    def media_ids(self) -> list[str | None]:
        return [media_id for group in self.groups for media_id in group]


@pytest.fixture
def stepped_time(monkeypatch: pytest.MonkeyPatch) -> SteppedTime:
    stepped = SteppedTime()
    monkeypatch.setattr(BackgroundLoop, "pause", lambda loop, seconds: stepped.pause(loop, seconds))
    monkeypatch.setattr(spool_drainer, "Outage", partial(Outage, clock=stepped.monotonic))
    return stepped


@pytest.fixture(scope="module")
def current_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database that has the schema of this release."""
    url = f"sqlite:///{tmp_path_factory.mktemp('current') / 'vodsync.db'}"
    schema.upgrade(url)
    opened = Store.open(url)
    yield opened
    opened.close()


class Receivers:
    """Receivers of one machine. Each has a drainer, and all share one spool file."""

    def __init__(self, store: Store, path: Path) -> None:
        self.path = path
        self._store = store
        self._drainers: list[SpoolDrainer] = []

    def start(
        self,
        database: Database,
        *,
        database_is_down: bool,
        after_commit: Callable[[], object] = lambda: None,
        store: Store | None = None,
    ) -> SpoolDrainer:
        drainer = SpoolDrainer(store or self._store, Spool(self.path), database, after_commit=after_commit)
        self._drainers.append(drainer)
        drainer.start(database_is_down=database_is_down)
        return drainer

    def spool(self, *media_ids: str) -> None:
        """Spool notifications as an earlier process would have."""
        spool = Spool(self.path)
        spool.put(deliveries(*media_ids))
        spool.close()

    def spooled(self) -> int:
        spool = Spool(self.path)
        count = spool.waiting().count
        spool.close()
        return count

    def close(self) -> None:
        for drainer in self._drainers:
            drainer.close()


@pytest.fixture
def receivers(current_schema: Store, stepped_time: SteppedTime, tmp_path: Path) -> Iterator[Receivers]:
    started = Receivers(current_schema, tmp_path / "spool.db")
    yield started
    stepped_time.advance(float("inf"))
    started.close()


def deliveries(*media_ids: str) -> list[Delivery]:
    return [delivery("default", events.parse(body(media_id)), received_at=NOON) for media_id in media_ids]


def wait_until(condition: Callable[[], object], missing: str) -> None:
    give_up_at = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up_at, f"missing: {missing}"
        time.sleep(0.002)


def test_notifications_of_an_earlier_process_are_moved_at_the_start(receivers: Receivers) -> None:
    receivers.spool("a", "b")
    database = Database()

    drainer = receivers.start(database, database_is_down=False)
    wait_until(lambda: receivers.spooled() == 0, "an empty spool")

    assert database.groups == [["a", "b"]]
    assert (drainer.database_is_down, drainer.error) == (False, None)


def test_notifications_are_spooled_until_the_database_accepts_them(receivers: Receivers, stepped_time: SteppedTime) -> None:
    database = Database(StoreUnavailableError("no route to the database"))
    drainer = receivers.start(database, database_is_down=False)

    drainer.save(deliveries("a"))
    stepped_time.wait_until_asleep()
    drainer.save(deliveries("b"))
    error, is_down, spooled = drainer.error, drainer.database_is_down, receivers.spooled()
    database.error = None
    stepped_time.advance(1)
    wait_until(lambda: not drainer.database_is_down, "the end of the outage")

    assert (error, is_down, spooled) == ("no route to the database", True, 2)
    assert database.media_ids == ["a", "b"]
    assert (drainer.error, receivers.spooled()) == (None, 0)


def test_the_database_is_down_until_the_first_try_succeeds(receivers: Receivers, stepped_time: SteppedTime) -> None:
    go_on = threading.Event()
    database = Database()
    database.before_move = lambda: go_on.wait(DEADLINE)
    receivers.spool("a")

    drainer = receivers.start(database, database_is_down=True)
    error = drainer.error
    go_on.set()
    wait_until(lambda: not drainer.database_is_down, "the end of the outage")

    assert error == "the database does not take notifications in time"
    assert drainer.error is None


def test_the_reason_of_an_earlier_outage_is_not_reported_for_the_next(receivers: Receivers, stepped_time: SteppedTime) -> None:
    moving, go_on = threading.Event(), threading.Event()

    def wait_inside_the_move() -> None:
        moving.set()
        go_on.wait(DEADLINE)

    database = Database(StoreUnavailableError("disk full"))
    drainer = receivers.start(database, database_is_down=False)
    drainer.save(deliveries("a"))
    stepped_time.wait_until_asleep()
    database.error = None
    stepped_time.advance(1)
    wait_until(lambda: receivers.spooled() == 0 and not drainer.database_is_down, "the end of the outage")

    database.before_move = wait_inside_the_move
    drainer.save(deliveries("b"))
    assert moving.wait(DEADLINE)
    error = drainer.error
    go_on.set()

    assert error == "the database does not take notifications in time"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (StoreUnavailableError("disk full"), "disk full"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError("media_id"), "KeyError: 'media_id'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_any_kind_is_retried_and_reported(
    receivers: Receivers, stepped_time: SteppedTime, error: Exception, fault: str
) -> None:
    receivers.spool("a")
    database = Database(error)
    drainer = receivers.start(database, database_is_down=True)

    stepped_time.wait_until_asleep()
    first = drainer.error
    stepped_time.advance(1)
    stepped_time.wait_until_asleep()
    second = drainer.error
    database.error = None
    stepped_time.advance(1)
    wait_until(lambda: not drainer.database_is_down, "the end of the outage")

    assert (first, second) == (fault, fault)
    assert database.media_ids == ["a"]


def test_nothing_is_moved_to_a_database_with_an_older_schema(
    receivers: Receivers, stepped_time: SteppedTime, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    schema.upgrade(url, revision="0008")
    old = Store.open(url)
    receivers.spool("a")
    database = Database()
    drainer = receivers.start(database, database_is_down=True, store=old)

    stepped_time.wait_until_asleep()
    error, groups, spooled = drainer.error, list(database.groups), receivers.spooled()
    schema.upgrade(url)
    stepped_time.advance(1)
    wait_until(lambda: not drainer.database_is_down, "the end of the outage")
    old.close()

    assert error is not None
    assert "run: vodsync migrate" in error
    assert (groups, spooled) == ([], 1)
    assert database.media_ids == ["a"]


def test_one_of_two_receivers_empties_their_spool_and_both_notice_that_the_database_is_back(receivers: Receivers) -> None:
    moving, go_on = threading.Event(), threading.Event()

    def wait_inside_the_move() -> None:
        moving.set()
        go_on.wait(DEADLINE)

    receivers.spool("a", "b")
    first_database, second_database = Database(), Database()
    first_database.before_move = wait_inside_the_move
    first = receivers.start(first_database, database_is_down=True)
    assert moving.wait(DEADLINE)

    second = receivers.start(second_database, database_is_down=True)
    wait_until(lambda: not second.database_is_down, "the end of the outage at the second receiver")
    go_on.set()
    wait_until(lambda: not first.database_is_down, "the end of the outage at the first receiver")

    assert (first_database.media_ids, second_database.media_ids) == (["a", "b"], [])


def test_a_receiver_takes_over_the_spool_after_another_one_has_ended(receivers: Receivers) -> None:
    receivers.spool("a")
    first_database, second_database = Database(), Database()
    first = receivers.start(first_database, database_is_down=True)
    wait_until(lambda: not first.database_is_down, "the end of the outage")
    first.close()

    receivers.spool("b")
    second = receivers.start(second_database, database_is_down=True)
    wait_until(lambda: not second.database_is_down, "the end of the outage at the second receiver")

    assert (first_database.media_ids, second_database.media_ids) == (["a"], ["b"])


def test_a_large_spool_is_moved_in_order_with_one_wake_up_per_group(receivers: Receivers) -> None:
    steps: list[str] = []
    media_ids = [f"m{number:04}" for number in range(1001)]
    receivers.spool(*media_ids)
    database = Database()
    database.before_move = lambda: steps.append("move")

    receivers.start(database, database_is_down=False, after_commit=lambda: steps.append("wake-up"))
    wait_until(lambda: receivers.spooled() == 0 and len(steps) == 6, "an empty spool")

    assert database.media_ids == media_ids
    assert [len(group) for group in database.groups] == [500, 500, 1]
    assert steps == ["move", "wake-up"] * 3


def test_notifications_stay_in_the_spool_for_the_next_receiver(receivers: Receivers, stepped_time: SteppedTime) -> None:
    database = Database(StoreUnavailableError("gone"))
    first = receivers.start(database, database_is_down=True)
    first.save(deliveries("a"))
    stepped_time.wait_until_asleep()
    stepped_time.advance(float("inf"))

    first.close()
    spooled = receivers.spooled()
    database.error = None
    receivers.start(database, database_is_down=False)
    wait_until(lambda: receivers.spooled() == 0, "an empty spool")

    assert spooled == 1
    assert database.media_ids == ["a"]


def test_a_spool_that_cannot_be_written_is_not_an_outage_of_the_database(current_schema: Store, tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()
    drainer = SpoolDrainer(current_schema, Spool(tmp_path / "spool.db"), Database())

    with pytest.raises(StoreUnavailableError, match=r"spool\.db"):
        drainer.save(deliveries("a"))

    assert (drainer.database_is_down, drainer.error) == (False, None)


class CountingLog:
    """A logger that counts its entries by level."""

    def __init__(self) -> None:
        self.levels: list[str] = []

    def info(self, _phrase: str, **_fields: Any) -> None:
        self.levels.append("info")

    def warning(self, _phrase: str, **_fields: Any) -> None:
        self.levels.append("warning")

    def error(self, _phrase: str, **_fields: Any) -> None:
        self.levels.append("error")


def test_an_outage_is_logged_when_it_starts_when_it_ends_and_at_intervals_between(
    receivers: Receivers, stepped_time: SteppedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CountingLog()
    monkeypatch.setattr(spool_drainer, "log", log)
    database = Database(StoreUnavailableError("gone"))
    drainer = receivers.start(database, database_is_down=False)

    drainer.save(deliveries("a"))
    for _ in range(260):
        stepped_time.wait_until_asleep()
        stepped_time.advance(0.5)
    stepped_time.wait_until_asleep()
    database.error = None
    stepped_time.advance(1)
    wait_until(lambda: not drainer.database_is_down, "the end of the outage")
    wait_until(lambda: log.levels[-1] == "info", "an entry at the end of the outage")

    # 130 seconds, of which the entries between may be 30 to 60 apart.
    assert (log.levels[0], log.levels[-1]) == ("warning", "info")
    assert set(log.levels[1:-1]) == {"error"}
    assert 2 <= len(log.levels[1:-1]) <= 4
