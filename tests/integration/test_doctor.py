"""How `vodsync doctor` checks database, workers, broker, spool and disk."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from tests.builders import body, request
from tests.doctor_harness import QUEUE, SECRET, Harness
from tests.worker_fakes import AwayStore
from worker import logs
from worker.cli.output import Exit
from worker.core import events
from worker.core.errors import VodUnavailableError
from worker.store import Store
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.installation_health import NO_WORKER
from worker.store.spool import Spool
from worker.store.tables import sync_request
from worker.sync.receive import delivery

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


def test_every_part_of_an_installation_without_faults_is_ok(harness: Harness) -> None:
    harness.configure(**QUEUE)

    verdicts = {part: verdict for part, (verdict, _) in harness.findings().items()}

    assert verdicts == {
        "installation": "ok",
        "database": "ok",
        "schema": "ok",
        "clock": "ok",
        "work": "ok",
        "broker": "ok",
        "spool": "ok",
        "refused notifications": "ok",
        "disk": "ok",
        "source default: callbacks": "ok",
        "source default: VOD": "ok",
        "source default: queue": "ok",
        "source default: callback settings at VOD": "ok",
    }


def test_the_text_names_each_part_in_one_line_and_shows_no_secret(harness: Harness) -> None:
    harness.monkeypatch.setattr(logs.redactor, "_secrets", ())
    logs.redactor.learn([SECRET])
    harness.vod.fault = VodUnavailableError(f"no answer to {SECRET}")

    result = harness.doctor()

    lines = result.stdout.splitlines()
    assert result.exit_code == Exit.FAILED
    assert len(lines) == len(harness.findings())
    assert [line.split()[0] for line in lines if "source default: VOD" in line] == ["bad"]
    assert SECRET not in result.stdout
    assert SECRET not in harness.doctor("--json").stdout


def test_a_part_that_is_only_unsure_is_not_a_failure(harness: Harness) -> None:
    harness.configure(VODSYNC_CALLBACK_UNSIGNED="accept")

    verdict, text = harness.finding("source default: callbacks")

    assert verdict == "unsure"
    assert "VODSYNC_CALLBACK_UNSIGNED" in text


def test_a_check_that_fails_unexpectedly_is_bad_and_hides_no_other_part(harness: Harness) -> None:
    harness.vod.fault = ZeroDivisionError("a fault of ours")

    findings = harness.findings()

    assert findings["source default: VOD"] == ("bad", "ZeroDivisionError: a fault of ours")
    assert findings["source default: callback settings at VOD"][0] == "ok"


# Database and work


def test_the_doctor_writes_no_row_that_stays(harness: Harness, store: Store) -> None:
    statements, commits = list[str](), list[Any]()
    event.listen(store.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2].split()[0]))
    event.listen(store.engine, "commit", commits.append)

    harness.findings()

    with store.reading() as connection:
        assert connection.execute(select(sync_request)).all() == []
    assert {"INSERT", "UPDATE", "DELETE"} <= set(statements)
    # A full disk is noticed at a commit only. This one contains no row.
    assert len(commits) == 1


def test_a_database_that_refuses_writes_is_bad_although_it_can_be_read(harness: Harness, store: Store) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            raise OperationalError(statement, {}, Exception("permission denied"))

    event.listen(store.engine, "before_cursor_execute", refuse)

    findings = harness.findings()

    assert findings["database"][0] == "bad"
    assert "permission denied" in findings["database"][1]
    assert "VODSYNC_DATABASE_URL" in findings["database"][1]
    assert findings["schema"][0] == "ok"


def test_an_empty_database_is_reachable_and_its_schema_is_missing(harness: Harness, tmp_path: Path) -> None:
    empty = Store.open(f"sqlite:///{tmp_path / 'empty.db'}")
    vars(harness.runtime)["store"] = empty

    findings = harness.findings()
    empty.close()

    assert findings["database"][0] == "ok"
    assert findings["schema"][0] == "bad"
    assert "vodsync migrate" in findings["schema"][1]


def test_a_database_that_is_away_hides_no_other_part(harness: Harness) -> None:
    away = AwayStore()
    away.engine = harness.store.engine
    vars(harness.runtime)["store"] = away

    verdicts = {part: verdict for part, (verdict, _) in harness.findings().items()}

    assert [part for part, verdict in verdicts.items() if verdict == "bad"] == ["database", "schema", "clock", "work"]
    assert verdicts["source default: VOD"] == "ok"


@pytest.mark.parametrize(("ahead", "direction"), [(120, "ahead of"), (-120, "behind")])
def test_a_machine_whose_clock_differs_from_the_database_is_bad(harness: Harness, ahead: int, direction: str) -> None:
    machine = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    harness.monkeypatch.setattr("worker.store.database_clock.time", machine)

    verdict, text = harness.finding("clock")

    assert verdict == "bad"
    assert re.fullmatch(rf"the clock of \S+ is 1[12]\d s {direction} the database's; synchronise both machines by NTP", text)


def test_a_worker_whose_clock_is_off_is_named(harness: Harness, store: Store) -> None:
    now = store.now()
    store.transact(lambda connection: Heartbeats(connection).beat(Heartbeat("far:1", now, now, now, clock_ahead_seconds=-90)))

    assert harness.finding("work") == ("bad", "the clock of far is 90 s behind the database's; synchronise both machines by NTP")


@pytest.mark.parametrize("dead_letter", [False, True], ids=["no requests", "a dead letter"])
def test_a_missing_worker_is_named_with_dead_letters_and_alone_is_unsure(harness: Harness, store: Store, dead_letter: bool) -> None:
    with store.engine.begin() as connection:
        Heartbeats(connection).remove("w:1")
    if dead_letter:
        request(store, "a", now=store.now())
        with store.engine.begin() as connection:
            connection.execute(sync_request.update().values(state="dead"))

    verdict, text = harness.finding("work")

    assert verdict == ("bad" if dead_letter else "unsure")
    assert text.count(NO_WORKER) == 1
    assert ("failures list" in text) == dead_letter


def test_a_worker_without_recent_heartbeats_is_named_once(harness: Harness, store: Store) -> None:
    an_hour_ago = store.now() - timedelta(hours=1)
    with store.engine.begin() as connection:
        Heartbeats(connection).beat(Heartbeat("w:1", an_hour_ago, an_hour_ago, an_hour_ago))

    verdict, text = harness.finding("work")

    assert verdict == "bad"
    assert text.count(NO_WORKER) == 1


# Broker, spool, disk


class ClosedBroker(kombu.Connection):  # type: ignore[misc]  # kombu has no types
    def ensure_connection(self, *_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("closed port")


class LosingBroker(kombu.Connection):  # type: ignore[misc]  # kombu has no types
    """Accepts messages and delivers none."""

    def Producer(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(publish=lambda *_, **__: None)


@pytest.mark.parametrize(("broker", "part_of_text"), [(ClosedBroker, "VODSYNC_BROKER_FOLDER"), (LosingBroker, "did not come back")])
def test_a_broker_that_does_not_deliver_is_bad(harness: Harness, broker: type[kombu.Connection], part_of_text: str) -> None:
    harness.broker.connection_type = broker

    verdict, text = harness.finding("broker")

    assert verdict == "bad"
    assert part_of_text in text


def test_notifications_in_the_spool_are_unsure(harness: Harness, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    vars(harness.runtime)["spool"] = spool
    empty = harness.finding("spool")

    spool.put([delivery("default", events.parse(body("a")), received_at=harness.store.now())])
    filled = harness.finding("spool")
    spool.close()

    assert (empty[0], filled[0]) == ("ok", "unsure")
    assert "1 notifications" in filled[1]


def test_a_spool_that_cannot_be_written_is_bad(harness: Harness, tmp_path: Path) -> None:
    vars(harness.runtime)["spool"] = Spool(tmp_path / "no such folder" / "spool.db")

    assert harness.finding("spool")[0] == "bad"


@pytest.mark.parametrize(("free", "verdict"), [(255 * 2**20, "bad"), (256 * 2**20, "ok")])
def test_a_disk_with_less_than_256_mb_is_bad(harness: Harness, free: int, verdict: str) -> None:
    harness.monkeypatch.setattr("worker.cli.checks.services.shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    assert harness.finding("disk")[0] == verdict
