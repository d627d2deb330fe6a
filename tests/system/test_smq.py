"""Notifications from the vendor's queue (SMQ): all are stored, and no fault loses any of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import monotonic_clock
from tests.system.fault_harness import OUTAGE_KINDS, fault_settings, start_outage
from tests.system.installation import PAIRS, Installation, Pair, analysed, installed
from tests.system.processes import Process, clean_environment, eventually, run
from tests.system.proxy import proxied

QUEUE = "vod-events"
BOTH = ["sqlite-embedded", "mariadb-redis"]

VISIBILITY = "2"  # seconds until a message that was received and not deleted is delivered again


class SmqInstallation:
    """An installation whose worker polls the emulated queue. No receiver runs, and the emulator sends no callbacks."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.database = installation.database
        installation.start_emulator(
            "--media", "60", "--smq-queue", QUEUE, "--smq-visibility", VISIBILITY, "--life-seconds", "0.3", notify=False
        )
        installation.settings["VODSYNC_SMQ_ENDPOINT"] = installation.settings["VODSYNC_ENDPOINT"]
        installation.settings["VODSYNC_SMQ_QUEUE"] = QUEUE
        for unused in ("VODSYNC_CALLBACK_URL", "VODSYNC_CALLBACK_KEYS"):
            del installation.settings[unused]
        self.media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]

    def start_worker(self, name: str = "worker", **settings: str) -> Process:
        return self.installation.start(name, "work", "--smq", **settings)

    def send(self, *bodies: dict[str, Any] | str) -> None:
        for body in bodies:
            content = body if isinstance(body, str) else json.dumps(body)
            self.installation.emulator.post("/queue", content=content.encode()).raise_for_status()

    def queue(self) -> dict[str, int]:
        state: dict[str, int] = self.installation.emulator.get("/queue").json()
        return state

    def set_faults(self, **faults: Any) -> None:
        self.installation.emulator.put("/faults", json=faults).raise_for_status()

    def clear_faults(self) -> None:
        self.installation.emulator.delete("/faults").raise_for_status()

    def wait_until_empty(self, *, within: float = 30) -> None:
        """Wait until the queue has neither visible nor invisible messages. Each check reads both counts from one response."""
        eventually(
            lambda: remaining(self.queue()) == 0,
            within=within,
            missing=lambda: f"an empty queue: {self.queue()}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def wait_for(self, media_ids: list[str], *, within: float = 30) -> None:
        """Wait until each of these assets is stored."""
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

    def kill(self, process: Process) -> None:
        """Send SIGKILL. The installation does not check the exit code of this process."""
        process.kill()
        self.installation.processes = {name: other for name, other in self.installation.processes.items() if other is not process}


def remaining(queue: Mapping[str, int]) -> int:
    """Return the number of messages that are not deleted, from one answer of the emulator."""
    return queue["visible"] + queue["invisible"]


@pytest.fixture(params=BOTH)
def smq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmqInstallation]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_MAX_ATTEMPTS="3", VODSYNC_LEASE="3") as installation:
        yield SmqInstallation(installation)


@pytest.fixture
def sqlite_smq(tmp_path: Path) -> Iterator[SmqInstallation]:
    """The same on SQLite alone."""
    with installed(Pair(None, None), tmp_path, VODSYNC_MAX_ATTEMPTS="3") as installation:
        yield SmqInstallation(installation)


# Normal operation


def test_queue_messages_alone_lead_to_stored_assets(smq: SmqInstallation) -> None:
    smq.start_worker()

    media_ids = smq.installation.emulator.post("/uploads", json={"count": 30}).json()["media_ids"]
    smq.installation.wait_until_synced()
    smq.wait_until_empty()
    smq.installation.wait_until_synced()

    delivered = smq.installation.emulator.get("/deliveries").json()["delivered"]
    assert smq.stored() == set(media_ids)
    assert smq.database.count("vod_notification") == delivered
    assert smq.queue()["deleted"] == delivered
    assert smq.queue()["received"] == delivered


def test_event_received_from_queue_and_http_is_stored_once(sqlite_smq: SmqInstallation) -> None:
    sqlite_smq.start_worker()
    body = analysed(sqlite_smq.media_ids[0])
    sqlite_smq.installation.start("receiver", "serve", VODSYNC_CALLBACK_UNSIGNED="accept")
    sqlite_smq.installation.wait_until_ready()

    sqlite_smq.send(body)
    assert sqlite_smq.installation.http.post("/callbacks", json=body).status_code == 200
    sqlite_smq.wait_until_empty()
    sqlite_smq.wait_for(sqlite_smq.media_ids[:1])

    assert sqlite_smq.database.count("vod_notification") == 1
    assert sqlite_smq.deliveries(sqlite_smq.media_ids[0]) == 2


# Faults


def test_worker_killed_between_commit_and_delete_loses_nothing(smq: SmqInstallation) -> None:
    media_ids = smq.media_ids[:5]
    smq.set_faults(slow={"next": 1, "seconds": 60, "operation": "DeleteMessage"})
    victim = smq.start_worker("victim")
    smq.send(*map(analysed, media_ids))
    eventually(lambda: smq.database.count("vod_notification"), within=20, missing=lambda: victim.log)

    smq.kill(victim)
    queue_after_kill = smq.queue()
    smq.clear_faults()
    smq.start_worker()
    smq.wait_until_empty()
    smq.wait_for(media_ids)

    assert queue_after_kill["deleted"] == 0
    assert smq.database.count("vod_notification") == 5
    assert max(map(smq.deliveries, media_ids)) == 2


@pytest.mark.parametrize("moment", ["before", "during"])
def test_worker_killed_between_receive_and_commit_loses_nothing(smq: SmqInstallation, moment: str) -> None:
    media_ids = smq.media_ids[:5]
    marker = smq.installation.folder / "fault"
    victim = smq.start_worker("victim", **fault_settings(f"INSERT INTO vod_notification:{moment}:kill", marker))
    smq.send(*map(analysed, media_ids))
    eventually(lambda: not victim.running, within=20, missing=lambda: f"the injected fault; {victim.log}")

    smq.kill(victim)
    queue_after_kill = smq.queue()
    smq.start_worker()
    smq.wait_until_empty()
    smq.wait_for(media_ids)

    assert queue_after_kill["received"]
    assert remaining(queue_after_kill) == 5
    assert smq.database.count("vod_notification") == 5


@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_messages_stay_in_queue_during_database_outage(tmp_path: Path, kind: str) -> None:
    with installed(PAIRS["mariadb-redis"], tmp_path) as installation:
        smq = SmqInstallation(installation)
        proxy, url = proxied(installation.settings["VODSYNC_DATABASE_URL"])
        worker = smq.start_worker(VODSYNC_DATABASE_URL=url)
        smq.send(analysed(smq.media_ids[0]))
        smq.wait_for(smq.media_ids[:1])
        smq.wait_until_empty()

        start_outage(proxy, kind)
        smq.send(*map(analysed, smq.media_ids[1:25]))
        time.sleep(5)
        queue_during_outage = smq.queue()
        proxy.restore()
        smq.wait_until_empty(within=60)
        smq.wait_for(smq.media_ids[:25])

        assert remaining(queue_during_outage) == 24
        # The worker tried one batch and receives no more until the database is back.
        assert queue_during_outage["received"] <= 1 + 16
        assert smq.database.count("vod_notification") == 25
        assert worker.running


def test_queue_failures_delay_and_lose_nothing(sqlite_smq: SmqInstallation) -> None:
    faults = ("reset", "halfway", "truncated", "garbage", "html", "http_500")
    sqlite_smq.set_faults(**{name: {"probability": 0.15} for name in faults}, early_404={"probability": 0.3})
    sqlite_smq.start_worker()

    for start in range(0, 60, 10):
        sqlite_smq.send(*map(analysed, sqlite_smq.media_ids[start : start + 10]))
        time.sleep(0.3)
    sqlite_smq.wait_for(sqlite_smq.media_ids[:1], within=40)
    sqlite_smq.clear_faults()
    sqlite_smq.wait_until_empty(within=60)
    sqlite_smq.wait_for(sqlite_smq.media_ids)

    assert sqlite_smq.database.count("vod_notification") == 60


@pytest.mark.parametrize("refuses_all", [False, True], ids=["one by one only", "not at all"])
def test_refused_deletions_do_not_delay_other_messages(sqlite_smq: SmqInstallation, refuses_all: bool) -> None:
    refused = {"probability": 1, "operation": "DeleteMessage", "code": "AccessDenied"}
    sqlite_smq.set_faults(**({"credentials": refused} if refuses_all else {"single_delete": {"probability": 1}}))
    worker = sqlite_smq.start_worker()

    sqlite_smq.send(*map(analysed, sqlite_smq.media_ids[:5]))
    sqlite_smq.wait_for(sqlite_smq.media_ids[:5])
    sqlite_smq.send(*map(analysed, sqlite_smq.media_ids[5:10]))
    sqlite_smq.wait_for(sqlite_smq.media_ids[:10])
    sqlite_smq.clear_faults()
    sqlite_smq.wait_until_empty()

    assert sqlite_smq.database.count("vod_notification") == 10
    assert ("stored, but cannot be deleted" in worker.log) == refuses_all
    assert "queue cannot be read" not in worker.log


# Unreadable messages


def test_unreadable_messages_are_stored_and_deleted_without_delaying_others(smq: SmqInstallation) -> None:
    worker = smq.start_worker()

    smq.send("hunter22 is no JSON", "bad \x01 character", analysed(smq.media_ids[0]))
    smq.wait_for(smq.media_ids[:1])
    smq.wait_until_empty()

    stored = smq.database.rows("SELECT * FROM vod_notification WHERE event_type IS NULL ORDER BY body")
    assert [(row["body"], row["status"], row["media_id"]) for row in stored] == [
        ("bad \ufffd character", "unreadable", None),
        ("hunter22 is no JSON", "unreadable", None),
    ]
    assert "stored as unreadable" in worker.log
    assert "hunter22" not in smq.installation.logs()
    # A message with a character that XML does not allow does not match its digest, so it is received again before it is stored.
    assert smq.queue()["received"] == 1 + 3 + 1


# Start, stop, settings and diagnosis


def test_worker_stops_at_once_during_long_poll(sqlite_smq: SmqInstallation) -> None:
    worker = sqlite_smq.start_worker()
    eventually(lambda: "queue poller started" in worker.log, within=20, missing=lambda: worker.log)
    time.sleep(1)
    started = monotonic_clock.seconds()

    exit_code = worker.stop()

    # Without the stop the poll takes twenty seconds.
    assert (exit_code, monotonic_clock.seconds() - started < 10) == (0, True)
    assert "queue poller stopped" in worker.log
    assert "queue did not answer" not in worker.log


def test_smq_flag_requires_queue_settings_and_polling_requires_the_flag(sqlite_smq: SmqInstallation) -> None:
    for missing in ("VODSYNC_SMQ_ENDPOINT", "VODSYNC_SMQ_QUEUE"):
        environment = clean_environment({**sqlite_smq.installation.settings, missing: ""}, sqlite_smq.installation.folder)
        refused = run("work", "--smq", folder=sqlite_smq.installation.folder, environment=environment)
        assert (refused.returncode, missing in refused.stderr) == (3, True)

    worker = sqlite_smq.installation.start("worker", "work")
    eventually(lambda: "worker started" in worker.log, within=20, missing=lambda: worker.log)
    sqlite_smq.send(analysed(sqlite_smq.media_ids[0]))
    time.sleep(2)

    assert sqlite_smq.queue()["received"] == 0


def test_each_source_can_have_its_own_queue(sqlite_smq: SmqInstallation) -> None:
    settings = sqlite_smq.installation.settings
    queue = {"smq_endpoint": settings.pop("VODSYNC_SMQ_ENDPOINT"), "smq_queue": settings.pop("VODSYNC_SMQ_QUEUE")}
    keys = {name.removeprefix("ALIBABA_CLOUD_").lower(): settings[name] for name in settings if name.startswith("ALIBABA_CLOUD_")}
    described = queue | keys | {"endpoint": settings["VODSYNC_ENDPOINT"]}
    toml = "[sources.singapore]\n" + "".join(f'{name} = "{value}"\n' for name, value in described.items())
    (sqlite_smq.installation.folder / "vodsync.toml").write_text(toml)
    sqlite_smq.start_worker()

    sqlite_smq.send(analysed(sqlite_smq.media_ids[0]))
    sqlite_smq.wait_for(sqlite_smq.media_ids[:1])

    assert [row["source"] for row in sqlite_smq.database.table("vod_notification")] == ["singapore"]


@pytest.mark.parametrize(
    ("settings", "mentioned"),
    [({"VODSYNC_SMQ_QUEUE": "another"}, "VODSYNC_SMQ_QUEUE"), ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, "mns:ReceiveMessage")],
    ids=["no such queue", "wrong keys"],
)
def test_errors_that_need_an_operator_are_logged_at_intervals(
    sqlite_smq: SmqInstallation, settings: dict[str, str], mentioned: str
) -> None:
    worker = sqlite_smq.start_worker(**settings)
    eventually(lambda: "queue cannot be read" in worker.log, within=20, missing=lambda: worker.log)
    time.sleep(3)

    lines = [line for line in worker.log.splitlines() if "queue cannot be read" in line]
    assert len(lines) <= 2
    assert json.loads(lines[0])["level"] == "error"
    assert mentioned in lines[0]
    assert worker.stop() == 0


def test_doctor_checks_the_queue(sqlite_smq: SmqInstallation) -> None:
    worker = sqlite_smq.start_worker()
    eventually(lambda: sqlite_smq.database.count("vod_worker"), within=20, missing="a worker")

    healthy = doctor_checks(sqlite_smq)
    worker.stop()
    no_queue = doctor_checks(sqlite_smq, VODSYNC_SMQ_QUEUE="another")
    unreachable = doctor_checks(sqlite_smq, VODSYNC_SMQ_ENDPOINT="http://127.0.0.1:9")
    sqlite_smq.set_faults(credentials={"next": 1, "operation": "ReceiveMessage", "code": "AccessDenied"})
    no_right = doctor_checks(sqlite_smq)

    part = "source default: queue"
    assert {verdict for verdict, _ in healthy.values()} == {"ok"}, healthy
    assert [checks[part][0] for checks in (no_queue, unreachable, no_right)] == ["bad", "bad", "unsure"]
    assert "VODSYNC_SMQ_QUEUE" in no_queue[part][1]
    assert "VODSYNC_SMQ_ENDPOINT" in unreachable[part][1]
    assert "PeekMessage" in no_right[part][1]
    assert no_queue["source default: callback settings at VOD"][0] == "bad"


def doctor_checks(smq: SmqInstallation, **settings: str) -> dict[str, tuple[str, str]]:
    environment = clean_environment(smq.installation.settings | settings, smq.installation.folder)
    result = run("doctor", "--json", folder=smq.installation.folder, environment=environment)
    return {check["part"]: (check["verdict"], check["says"]) for check in json.loads(result.stdout)}
