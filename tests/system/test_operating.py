"""Diagnosis, dead letters, source errors, restart and stop, as an operator uses them."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.installation import CALLBACK_KEY, PAIRS, Installation, Pair, analysed, installed, signed
from tests.system.processes import clean_environment, eventually, free_port, run

DONE = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
UNREACHABLE = 4


@pytest.fixture(params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_MAX_ATTEMPTS="1") as running:
        running.start_emulator("--media", "60")
        yield running


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return media_ids


def verdicts(installation: Installation, **settings: str) -> dict[str, str]:
    """Run `vodsync doctor` and return its verdict on each part."""
    environment = clean_environment(installation.settings | settings, installation.folder)
    result = run("doctor", "--json", folder=installation.folder, environment=environment)
    by_part = {check["part"]: check["verdict"] for check in json.loads(result.stdout)}
    assert result.returncode == (FAILED if "bad" in by_part.values() else DONE), result.stdout
    assert CALLBACK_KEY not in result.stdout
    return by_part


# doctor


def test_doctor_reports_ok_for_healthy_installation(installation: Installation) -> None:
    installation.start("receiver", "serve")
    installation.start("worker", "work", "--beat")
    installation.wait_until_ready()
    eventually(lambda: installation.http.get("/statusz").json()["workers"], within=15, missing="a worker")

    result = verdicts(installation)

    assert set(result.values()) == {"ok"}, result
    assert {"database", "schema", "broker", "spool", "disk", "work"} < result.keys()


def test_doctor_reports_wrong_keys_and_wrong_callback_url(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator()

        result = verdicts(running, ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong", VODSYNC_CALLBACK_URL="http://elsewhere/callbacks")
        wrong_url = verdicts(running, VODSYNC_CALLBACK_URL="http://elsewhere/callbacks")
        other_key = verdicts(running, VODSYNC_CALLBACK_KEYS="another1,another2")

    assert result["source default: VOD"] == "bad"
    assert wrong_url["source default: VOD"] == "ok"
    assert wrong_url["source default: callback settings at VOD"] == "bad"
    assert other_key["source default: callback settings at VOD"] == "bad"


@pytest.mark.parametrize("fault", ["service_unavailable", "http_500", "throttle"])
def test_doctor_reports_failing_vod_calls(tmp_path: Path, fault: str) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator()
        running.emulator.put("/faults", json={fault: {"next": 9}}).raise_for_status()

        result = verdicts(running)

    assert result["source default: VOD"] == "bad"


def test_doctor_checks_vod_although_database_and_broker_are_unreachable(tmp_path: Path) -> None:
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as running:
        running.start_emulator()

        result = verdicts(
            running, VODSYNC_DATABASE_URL="postgresql://127.0.0.1:9/none", VODSYNC_BROKER_URL="amqp://guest:guest@127.0.0.1:9//"
        )

    assert (result["database"], result["schema"], result["broker"]) == ("bad", "bad", "bad")
    assert result["source default: VOD"] == "ok"


# Dead letters


def test_dead_letters_are_listed_retried_and_dropped(installation: Installation) -> None:
    first, second, third = library(installation)[:3]
    installation.start("receiver", "serve")
    installation.start("worker", "work", "--beat")
    installation.wait_until_ready()
    installation.emulator.put("/faults", json={"poisonous": [first, second, third]}).raise_for_status()
    for media_id in (first, second, third):
        installation.notify(analysed(media_id))
    dead = "SELECT count(*) FROM vod_sync_request WHERE state = 'dead'"
    eventually(lambda: installation.database.value(dead) == 3, within=20, missing="three dead letters")

    dead_letters = json.loads(installation.run("failures", "list", "--json").stdout)
    shown = installation.run("failures", "show", first)
    dry_run = installation.run("failures", "retry", "--all", "--dry-run")
    problems = json.loads(installation.run("status", "--json").stdout)["problems"]
    installation.emulator.delete("/faults")
    retried = installation.run("failures", "retry", first)
    eventually(lambda: _state(installation, first) == "ok", within=15, missing="the retried asset")
    dropped = installation.run("failures", "drop", second)
    installation.notify(analysed(third, EventTime="2026-01-01T00:00:00Z"))
    eventually(lambda: _state(installation, third) == "ok", within=15, missing="the asset with another notification")
    dropped_again = installation.run("failures", "drop", second)

    assert {failure["media_id"] for failure in dead_letters} == {first, second, third}
    assert all(failure["failed_at"] <= datetime.now(UTC).isoformat() for failure in dead_letters)
    assert all("request" in failure["error"] and failure["attempts"] == 1 for failure in dead_letters)
    assert (shown.returncode, retried.returncode, dropped.returncode, dropped_again.returncode) == (DONE, DONE, DONE, FAILED)
    assert "3 dead letters" in dry_run.stderr
    assert any("failures list" in problem for problem in problems)
    assert installation.database.value(dead) == 0
    assert installation.run("failures", "retry").returncode == USAGE


def _state(installation: Installation, media_id: str) -> Any:
    rows = installation.database.rows("SELECT state FROM vod_media WHERE media_id = :id", id=media_id)
    return rows[0]["state"] if rows else None


# Sources with errors, missing workers


def test_wrong_keys_are_reported_and_a_new_worker_retries_at_once(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator("--media", "1")
        running.start("receiver", "serve")
        worker = running.start("worker", "work", ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong")
        running.wait_until_ready()
        (media_id,) = library(running)

        running.notify(analysed(media_id))
        backed_off = eventually(
            lambda: running.http.get("/statusz").json()["held_back"], within=10, missing="a source that is backed off"
        )
        problems = running.http.get("/statusz").json()["problems"]
        worker.stop()
        running.start("worker-with-keys", "work")
        eventually(lambda: _state(running, media_id) == "ok", within=15, missing="the asset before the back-off ends")

        assert backed_off[0]["source"] == "default"
        assert "check its keys" in problems[0]
        assert running.http.get("/statusz").json()["held_back"] == []
        assert "source backed off" in worker.log


def test_sync_wait_without_a_worker_reports_it(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator("--media", "1")

        result = running.run("sync", library(running)[0], "--wait", "--timeout", "6")

    assert result.returncode == FAILED
    assert "no worker is alive" in result.stderr
    assert "waiting" in result.stderr


def test_doctor_reports_missing_worker_in_addition_to_dead_letters(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator("--media", "1")
        running.run("sync", library(running)[0])
        running.database.do("UPDATE vod_sync_request SET state = 'dead'")

        result = running.run("doctor")

    assert result.returncode == FAILED
    assert "1 dead letter" in result.stdout + result.stderr
    assert "no worker is alive" in result.stdout + result.stderr


# Stopping


@pytest.mark.parametrize("receivers", [1, 2])
def test_rolling_restart_under_load_loses_nothing_and_two_receivers_refuse_nothing(tmp_path: Path, receivers: int) -> None:
    """With two receivers each notification is accepted at once; with one the sender has to retry, as VOD does."""
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as installation:
        ports = [free_port() for _ in range(receivers)]
        processes = {port: installation.start(f"receiver-{port}", "serve", "--port", str(port)) for port in ports}
        for port in ports:
            wait_for(port)
        accepted: set[str] = set()
        refused: list[int] = []
        stopped = threading.Event()

        def send(number: int) -> None:
            for count in itertools.count():
                if stopped.is_set():
                    return
                notification = analysed(f"rolling-{number}-{count}")
                status = deliver(installation, ports, json.dumps(notification).encode())
                if status == 200:
                    accepted.add(notification["VideoId"])
                else:
                    refused.append(status)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        for port in ports * 2:
            assert processes[port].stop() == DONE
            processes[port] = installation.start(f"receiver-{port}", "serve", "--port", str(port))
            wait_for(port)
            time.sleep(0.5)
        stopped.set()
        for sender in senders:
            sender.join(20)

        stored = {row["media_id"] for row in installation.database.table("vod_notification")}
        assert accepted <= stored
        assert len(accepted) > 20
        if receivers == 2:
            assert refused == []


def deliver(installation: Installation, ports: list[int], content: bytes) -> int:
    """Return the status from the first receiver that accepts the connection, or 0 if none does."""
    headers = signed(content, url=installation.callback_url)
    for port in random.sample(ports, len(ports)):
        try:
            url = f"http://127.0.0.1:{port}/callbacks"
            return httpx.post(url, content=content, headers=headers, timeout=30, trust_env=False).status_code
        except httpx.TransportError:
            continue
    return 0


def wait_for(port: int) -> None:
    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    eventually(is_ready, within=20, missing=f"a receiver at port {port}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("role", ["serve", "work"])
def test_role_stops_cleanly_and_second_signal_stops_it_at_once(tmp_path: Path, role: str, number: signal.Signals) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        installation.start_emulator("--media", "1", "--latency", "20")
        once = installation.start("once", role)
        eventually(lambda: "started" in once.log, within=15, missing="the log line of the start")
        once.signal(number)
        first_code = once.wait(within=15)
        twice = installation.start("twice", role)
        eventually(lambda: "started" in twice.log, within=15, missing="the log line of the start")
        if role == "work":
            installation.run("sync", library(installation)[0])
            eventually(lambda: installation.calls()["calls"], within=15, missing="a slow call")
        twice.signal(number)
        # The system merges two signals that are sent at the same moment.
        time.sleep(0.3)
        twice.signal(number)
        second_code = twice.wait(within=3)
        del installation.processes["twice"]

    assert first_code == DONE
    # A receiver without open requests may end before the second signal.
    assert second_code in ((128 + number,) if role == "work" else (128 + number, -number, DONE))
