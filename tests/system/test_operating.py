"""What an operator asks and does: what is wrong, what was given up on, and whether it stops."""

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

DONE, FAILED, USAGE, CONFIGURATION, UNREACHABLE = range(5)


@pytest.fixture(params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_MAX_ATTEMPTS="1") as ready:
        ready.start_emulator("--media", "60")
        yield ready


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return media_ids


def findings(installation: Installation, **settings: str) -> dict[str, str]:
    environment = clean_environment(installation.settings | settings, installation.folder)
    said = run("doctor", "--json", folder=installation.folder, environment=environment)
    found = {each["part"]: each["verdict"] for each in json.loads(said.stdout)}
    assert said.returncode == (FAILED if "bad" in found.values() else DONE), said.stdout
    assert CALLBACK_KEY not in said.stdout
    return found


# doctor


def test_the_doctor_finds_nothing_wrong_where_nothing_is(installation: Installation) -> None:
    installation.start("receiver", "serve")
    installation.start("worker", "work", "--beat")
    installation.wait_until_ready()
    eventually(lambda: installation.http.get("/statusz").json()["workers"], within=15, missing="a worker")

    found = findings(installation)

    assert set(found.values()) == {"ok"}, found
    assert {"database", "schema", "broker", "spool", "disk", "work"} < found.keys()


def test_the_doctor_names_wrong_keys_and_a_wrong_url(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator()

        found = findings(ready, ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong", VODSYNC_CALLBACK_URL="http://elsewhere/callbacks")
        elsewhere = findings(ready, VODSYNC_CALLBACK_URL="http://elsewhere/callbacks")
        other_key = findings(ready, VODSYNC_CALLBACK_KEYS="another1,another2")

    assert found["source default: VOD"] == "bad"
    assert elsewhere["source default: VOD"] == "ok"
    assert elsewhere["source default: callback settings at VOD"] == "bad"
    assert other_key["source default: callback settings at VOD"] == "bad"


@pytest.mark.parametrize("fault", ["service_unavailable", "http_500", "throttle"])
def test_the_doctor_does_not_take_a_failure_for_an_answer(tmp_path: Path, fault: str) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator()
        ready.emulator.put("/faults", json={fault: {"next": 9}}).raise_for_status()

        found = findings(ready)

    assert found["source default: VOD"] == "bad"


def test_the_doctor_goes_on_without_database_and_broker(tmp_path: Path) -> None:
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as ready:
        ready.start_emulator()

        found = findings(
            ready, VODSYNC_DATABASE_URL="postgresql://127.0.0.1:9/none", VODSYNC_BROKER_URL="amqp://guest:guest@127.0.0.1:9//"
        )

    assert (found["database"], found["schema"], found["broker"]) == ("bad", "bad", "bad")
    assert found["source default: VOD"] == "ok"


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

    listed = json.loads(installation.run("failures", "list", "--json").stdout)
    shown = installation.run("failures", "show", first)
    counted = installation.run("failures", "retry", "--all", "--dry-run")
    problems = json.loads(installation.run("status", "--json").stdout)["problems"]
    installation.emulator.delete("/faults")
    retried = installation.run("failures", "retry", first)
    eventually(lambda: _state(installation, first) == "ok", within=15, missing="the medium that was retried")
    dropped = installation.run("failures", "drop", second)
    installation.notify(analysed(third, EventTime="2026-01-01T00:00:00Z"))
    eventually(lambda: _state(installation, third) == "ok", within=15, missing="the medium that was notified again")
    nothing = installation.run("failures", "drop", second)

    assert {failure["media_id"] for failure in listed} == {first, second, third}
    assert all(failure["failed_at"] <= datetime.now(UTC).isoformat() for failure in listed)
    assert all("request" in failure["error"] and failure["attempts"] == 1 for failure in listed)
    assert (shown.returncode, retried.returncode, dropped.returncode, nothing.returncode) == (DONE, DONE, DONE, FAILED)
    assert "3 dead letters" in counted.stderr
    assert any("failures list" in problem for problem in problems)
    assert installation.database.value(dead) == 0
    assert installation.run("failures", "retry").returncode == USAGE


def _state(installation: Installation, media_id: str) -> Any:
    found = installation.database.rows("SELECT state FROM vod_media WHERE media_id = :id", id=media_id)
    return found[0]["state"] if found else None


# A source that VOD does not answer


def test_wrong_keys_are_said_loudly_and_a_new_worker_tries_at_once(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator("--media", "1")
        ready.start("receiver", "serve")
        worker = ready.start("worker", "work", ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong")
        ready.wait_until_ready()
        (media_id,) = library(ready)

        ready.notify(analysed(media_id))
        held = eventually(lambda: ready.http.get("/statusz").json()["held_back"], within=10, missing="a source that is held back")
        problems = ready.http.get("/statusz").json()["problems"]
        worker.stop()
        ready.start("worker-with-keys", "work")
        eventually(lambda: _state(ready, media_id) == "ok", within=15, missing="the medium, long before the minute is over")

        assert held[0]["source"] == "default"
        assert "check its keys" in problems[0]
        assert ready.http.get("/statusz").json()["held_back"] == []
        assert "source backed off" in worker.log


def test_waiting_for_a_worker_that_is_not_there_says_so(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator("--media", "1")

        said = ready.run("sync", library(ready)[0], "--wait", "--timeout", "6")

    assert said.returncode == FAILED
    assert "no worker is alive" in said.stderr
    assert "waiting" in said.stderr


def test_the_doctor_misses_a_worker_beside_dead_letters(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator("--media", "1")
        ready.run("sync", library(ready)[0])
        ready.database.do("UPDATE vod_sync_request SET state = 'dead'")

        said = ready.run("doctor")

    assert said.returncode == FAILED
    assert "1 dead letter" in said.stdout + said.stderr
    assert "no worker is alive" in said.stdout + said.stderr


# Stopping


@pytest.mark.parametrize("receivers", [1, 2])
def test_a_rolling_restart_under_load_loses_nothing_and_refuses_nothing(tmp_path: Path, receivers: int) -> None:
    """With two receivers each sender finds one that answers 200; with one it has to come back, as VOD does."""
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as ready:
        ports = [free_port() for _ in range(receivers)]
        running = {port: ready.start(f"receiver-{port}", "serve", "--port", str(port)) for port in ports}
        for port in ports:
            wait_for(port)
        answered: set[str] = set()
        refused: list[int] = []
        done = threading.Event()

        def send(number: int) -> None:
            for count in itertools.count():
                if done.is_set():
                    return
                said = analysed(f"rolling-{number}-{count}")
                status = deliver(ready, ports, json.dumps(said).encode())
                if status == 200:
                    answered.add(said["VideoId"])
                else:
                    refused.append(status)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        for port in ports * 2:
            assert running[port].stop() == DONE
            running[port] = ready.start(f"receiver-{port}", "serve", "--port", str(port))
            wait_for(port)
            time.sleep(0.5)
        done.set()
        for sender in senders:
            sender.join(20)

        stored = {row["media_id"] for row in ready.database.table("vod_notification")}
        assert answered <= stored
        assert len(answered) > 20
        if receivers == 2:
            assert refused == []


def deliver(ready: Installation, ports: list[int], content: bytes) -> int:
    """The status of the first receiver that takes the connection; 0 where none does."""
    headers = signed(content, url=ready.callback_url)
    for port in random.sample(ports, len(ports)):
        try:
            url = f"http://127.0.0.1:{port}/callbacks"
            return httpx.post(url, content=content, headers=headers, timeout=30, trust_env=False).status_code
        except httpx.TransportError:
            continue
    return 0


def wait_for(port: int) -> None:
    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers, within=20, missing=f"a receiver at port {port}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("role", ["serve", "work"])
def test_a_role_stops_in_order_and_at_once_when_asked_twice(tmp_path: Path, role: str, number: signal.Signals) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator("--media", "1", "--latency", "20")
        once = ready.start("once", role)
        eventually(lambda: "started" in once.log, within=15, missing="a role that started")
        once.signal(number)
        code = once.wait(within=15)
        twice = ready.start("twice", role)
        eventually(lambda: "started" in twice.log, within=15, missing="a role that started")
        if role == "work":
            ready.run("sync", library(ready)[0])
            eventually(lambda: ready.calls()["calls"], within=15, missing="a call that takes its time")
        twice.signal(number)
        # Two signals at the same moment are one.
        time.sleep(0.3)
        twice.signal(number)
        ended = twice.wait(within=3)
        del ready.processes["twice"]

    assert code == DONE
    # A receiver that has nothing to finish may be gone before it is asked again.
    assert ended in ((128 + number,) if role == "work" else (128 + number, -number, DONE))
