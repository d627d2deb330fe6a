"""Events that come through the vendor's queue: they end as rows, and whatever dies or is away on the way loses none of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import monotonic_clock
from tests.system.installation import PAIRS, Installation, Pair, analysed, installed
from tests.system.processes import Process, clean_environment, eventually, run
from tests.system.proxy import proxied

QUEUE = "vod-events"
BOTH = ["sqlite-embedded", "mariadb-redis"]

#: Seconds until what was received and not deleted comes back.
VISIBILITY = "2"


class Line:
    """An installation whose worker collects from the emulated queue; no receiver runs, and nothing calls it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.database = installation.database
        installation.start_emulator(
            "--media", "60", "--smq-queue", QUEUE, "--smq-visibility", VISIBILITY, "--life-seconds", "0.3", telling=False
        )
        installation.settings["VODSYNC_SMQ_ENDPOINT"] = installation.settings["VODSYNC_ENDPOINT"]
        installation.settings["VODSYNC_SMQ_QUEUE"] = QUEUE
        for unused in ("VODSYNC_CALLBACK_URL", "VODSYNC_CALLBACK_KEYS"):
            del installation.settings[unused]
        self.media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]

    def worker(self, name: str = "worker", **settings: str) -> Process:
        return self.installation.start(name, "work", "--smq", **settings)

    def write(self, *bodies: dict[str, Any] | str) -> None:
        for body in bodies:
            content = body if isinstance(body, str) else json.dumps(body)
            self.installation.emulator.post("/queue", content=content.encode()).raise_for_status()

    def queue(self) -> dict[str, int]:
        state: dict[str, int] = self.installation.emulator.get("/queue").json()
        return state

    def break_(self, **faults: Any) -> None:
        self.installation.emulator.put("/faults", json=faults).raise_for_status()

    def repair(self) -> None:
        self.installation.emulator.delete("/faults").raise_for_status()

    def wait_until_empty(self, *, within: float = 30) -> None:
        eventually(
            lambda: [state for state in [self.queue()] if not state["visible"] + state["invisible"]],
            within=within,
            missing=lambda: f"an empty queue: {self.queue()}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def wait_for(self, media_ids: list[str], *, within: float = 30) -> None:
        """Until each of these has its row."""
        eventually(
            lambda: set(media_ids) <= self.stored(),
            within=within,
            missing=lambda: f"{set(media_ids) - self.stored()}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def stored(self) -> set[str]:
        return {row["media_id"] for row in self.database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}

    def deliveries(self, media_id: str) -> int:
        rows = self.database.rows("SELECT deliveries FROM vod_notification WHERE media_id = :id", id=media_id)
        return sum(row["deliveries"] for row in rows)

    def hit(self, process: Process) -> None:
        """kill -9, and no complaint about it at the end."""
        process.kill()
        self.installation.processes = {name: each for name, each in self.installation.processes.items() if each is not process}


@pytest.fixture(params=BOTH)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_MAX_ATTEMPTS="3", VODSYNC_LEASE="3") as ready:
        yield Line(ready)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Line]:
    """The same on SQLite alone."""
    with installed(Pair(None, None), tmp_path, VODSYNC_MAX_ATTEMPTS="3") as ready:
        yield Line(ready)


# It works


def test_events_that_come_through_the_queue_alone_end_as_rows(line: Line) -> None:
    line.worker()

    media_ids = line.installation.emulator.post("/uploads", json={"count": 30}).json()["media_ids"]
    line.installation.wait_until_synced()
    line.wait_until_empty()
    line.installation.wait_until_synced()

    delivered = line.installation.emulator.get("/deliveries").json()["delivered"]
    assert line.stored() == set(media_ids)
    assert line.database.count("vod_notification") == delivered
    assert line.queue()["deleted"] == delivered
    assert line.queue()["received"] == delivered


def test_an_event_that_comes_by_http_too_is_one(small: Line) -> None:
    small.worker()
    body = analysed(small.media_ids[0])
    small.installation.start("receiver", "serve", VODSYNC_CALLBACK_UNSIGNED="accept")
    small.installation.wait_until_ready()

    small.write(body)
    assert small.installation.http.post("/callbacks", json=body).status_code == 200
    small.wait_until_empty()
    small.wait_for(small.media_ids[:1])

    assert small.database.count("vod_notification") == 1
    assert small.deliveries(small.media_ids[0]) == 2


# What dies or is away


def test_a_worker_killed_between_commit_and_delete_loses_nothing(line: Line) -> None:
    media_ids = line.media_ids[:5]
    line.break_(slow={"next": 1, "seconds": 60, "operation": "DeleteMessage"})
    victim = line.worker("victim")
    line.write(*map(analysed, media_ids))
    eventually(lambda: line.database.count("vod_notification"), within=20, missing=lambda: victim.log)

    line.hit(victim)
    left = line.queue()
    line.repair()
    line.worker()
    line.wait_until_empty()
    line.wait_for(media_ids)

    assert left["deleted"] == 0
    assert line.database.count("vod_notification") == 5
    assert max(map(line.deliveries, media_ids)) == 2


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_worker_killed_between_receive_and_commit_loses_nothing(line: Line, moment: str) -> None:
    media_ids = line.media_ids[:5]
    sign = line.installation.folder / "struck"
    striking = str(Path(__file__).with_name("fault_injection"))
    victim = line.worker(
        "victim", STRIKE_AT=f"INSERT INTO vod_notification:{moment}:kill", STRIKE_SIGN=str(sign), PYTHONPATH=striking
    )
    line.write(*map(analysed, media_ids))
    eventually(lambda: not victim.running, within=20, missing=lambda: f"the blow; {victim.log}")

    line.hit(victim)
    received, left = line.queue()["received"], line.queue()["visible"] + line.queue()["invisible"]
    line.worker()
    line.wait_until_empty()
    line.wait_for(media_ids)

    assert received
    assert left == 5
    assert line.database.count("vod_notification") == 5


@pytest.mark.parametrize("kind", ["refuse", "freeze"])
def test_a_database_that_is_away_leaves_everything_in_the_queue(tmp_path: Path, kind: str) -> None:
    with installed(PAIRS["mariadb-redis"], tmp_path) as ready:
        line = Line(ready)
        proxy, url = proxied(ready.settings["VODSYNC_DATABASE_URL"])
        worker = line.worker(VODSYNC_DATABASE_URL=url)
        line.write(analysed(line.media_ids[0]))
        line.wait_for(line.media_ids[:1])
        line.wait_until_empty()

        {"refuse": proxy.cut, "freeze": proxy.freeze}[kind]()
        line.write(*map(analysed, line.media_ids[1:25]))
        time.sleep(5)
        away = line.queue()
        proxy.restore()
        line.wait_until_empty(within=60)
        line.wait_for(line.media_ids[:25])

        assert away["visible"] + away["invisible"] == 24
        # One batch was tried; nobody takes more before the database is back.
        assert away["received"] <= 1 + 16
        assert line.database.count("vod_notification") == 25
        assert worker.running


def test_a_queue_that_fails_in_every_way_delays_and_loses_nothing(small: Line) -> None:
    faults = ("reset", "halfway", "truncated", "garbage", "html", "http_500")
    small.break_(**{name: {"probability": 0.15} for name in faults}, early_404={"probability": 0.3})
    small.worker()

    for start in range(0, 60, 10):
        small.write(*map(analysed, small.media_ids[start : start + 10]))
        time.sleep(0.3)
    small.wait_for(small.media_ids[:1], within=40)
    small.repair()
    small.wait_until_empty(within=60)
    small.wait_for(small.media_ids)

    assert small.database.count("vod_notification") == 60


@pytest.mark.parametrize("stuck", [False, True], ids=["one by one only", "not at all"])
def test_a_queue_that_does_not_delete_as_asked_holds_up_nothing(small: Line, stuck: bool) -> None:
    refused = {"probability": 1, "operation": "DeleteMessage", "code": "AccessDenied"}
    small.break_(**({"credentials": refused} if stuck else {"single_delete": {"probability": 1}}))
    worker = small.worker()

    small.write(*map(analysed, small.media_ids[:5]))
    small.wait_for(small.media_ids[:5])
    small.write(*map(analysed, small.media_ids[5:10]))
    small.wait_for(small.media_ids[:10])
    small.repair()
    small.wait_until_empty()

    assert small.database.count("vod_notification") == 10
    assert ("stored, but cannot be deleted" in worker.log) == stuck
    assert "queue cannot be read" not in worker.log


# Poison


def test_poison_is_kept_deleted_and_sinks_nobody(line: Line) -> None:
    worker = line.worker()

    line.write("hunter22 is no JSON", "bad \x01 character", analysed(line.media_ids[0]))
    line.wait_for(line.media_ids[:1])
    line.wait_until_empty()

    kept = line.database.rows("SELECT * FROM vod_notification WHERE event_type IS NULL ORDER BY body")
    assert [(row["body"], row["status"], row["media_id"]) for row in kept] == [
        ("bad \ufffd character", "unreadable", None),
        ("hunter22 is no JSON", "unreadable", None),
    ]
    assert "kept unread" in worker.log
    assert "hunter22" not in line.installation.logs()
    # What XML cannot hold does not fit its digest, and may come better another time.
    assert line.queue()["received"] == 1 + 3 + 1


# Start, stop, and what an operator is told


def test_the_worker_stops_at_once_in_the_middle_of_a_long_poll(small: Line) -> None:
    worker = small.worker()
    eventually(lambda: "queue poller started" in worker.log, within=20, missing=lambda: worker.log)
    time.sleep(1)
    began = monotonic_clock.seconds()

    code = worker.stop()

    # The poll would take twenty seconds.
    assert (code, monotonic_clock.seconds() - began < 10) == (0, True)
    assert "queue poller stopped" in worker.log
    assert "queue did not answer" not in worker.log


def test_the_flag_needs_a_queue_and_a_queue_needs_the_flag(small: Line) -> None:
    for missing in ("VODSYNC_SMQ_ENDPOINT", "VODSYNC_SMQ_QUEUE"):
        environment = clean_environment({**small.installation.settings, missing: ""}, small.installation.folder)
        refused = run("work", "--smq", folder=small.installation.folder, environment=environment)
        assert (refused.returncode, missing in refused.stderr) == (3, True)

    worker = small.installation.start("worker", "work")
    eventually(lambda: "worker started" in worker.log, within=20, missing=lambda: worker.log)
    small.write(analysed(small.media_ids[0]))
    time.sleep(2)

    assert small.queue()["received"] == 0


def test_a_source_of_its_own_has_a_queue_of_its_own(small: Line) -> None:
    settings = small.installation.settings
    moved = {"smq_endpoint": settings.pop("VODSYNC_SMQ_ENDPOINT"), "smq_queue": settings.pop("VODSYNC_SMQ_QUEUE")}
    keys = {name.removeprefix("ALIBABA_CLOUD_").lower(): settings[name] for name in settings if name.startswith("ALIBABA_CLOUD_")}
    described = moved | keys | {"endpoint": settings["VODSYNC_ENDPOINT"]}
    toml = "[sources.singapore]\n" + "".join(f'{name} = "{value}"\n' for name, value in described.items())
    (small.installation.folder / "vodsync.toml").write_text(toml)
    small.worker()

    small.write(analysed(small.media_ids[0]))
    small.wait_for(small.media_ids[:1])

    assert [row["source"] for row in small.database.table("vod_notification")] == ["singapore"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"VODSYNC_SMQ_QUEUE": "another"}, "VODSYNC_SMQ_QUEUE"), ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, "mns:ReceiveMessage")],
    ids=["no such queue", "wrong keys"],
)
def test_what_somebody_has_to_change_is_an_error_now_and_then(small: Line, settings: dict[str, str], says: str) -> None:
    worker = small.worker(**settings)
    eventually(lambda: "queue cannot be read" in worker.log, within=20, missing=lambda: worker.log)
    time.sleep(3)

    lines = [line for line in worker.log.splitlines() if "queue cannot be read" in line]
    assert len(lines) <= 2
    assert json.loads(lines[0])["level"] == "error"
    assert says in lines[0]
    assert worker.stop() == 0


def test_the_doctor_looks_into_the_queue(small: Line) -> None:
    worker = small.worker()
    eventually(lambda: small.database.count("vod_worker"), within=20, missing="a worker")

    well = findings(small)
    worker.stop()
    no_queue = findings(small, VODSYNC_SMQ_QUEUE="another")
    nobody = findings(small, VODSYNC_SMQ_ENDPOINT="http://127.0.0.1:9")
    small.break_(credentials={"next": 1, "operation": "ReceiveMessage", "code": "AccessDenied"})
    no_right = findings(small)

    part = "source default: queue"
    assert {verdict for verdict, _ in well.values()} == {"ok"}, well
    assert [found[part][0] for found in (no_queue, nobody, no_right)] == ["bad", "bad", "unsure"]
    assert "VODSYNC_SMQ_QUEUE" in no_queue[part][1]
    assert "VODSYNC_SMQ_ENDPOINT" in nobody[part][1]
    assert "PeekMessage" in no_right[part][1]
    assert no_queue["source default: callback settings at VOD"][0] == "bad"


def findings(line: Line, **settings: str) -> dict[str, tuple[str, str]]:
    environment = clean_environment(line.installation.settings | settings, line.installation.folder)
    said = run("doctor", "--json", folder=line.installation.folder, environment=environment)
    return {each["part"]: (each["verdict"], each["says"]) for each in json.loads(said.stdout)}
