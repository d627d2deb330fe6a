"""The previous release and this one run on one database while callbacks arrive: upgrade, and back."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import skip_or_fail
from tests.system.installation import PAIRS, Installation, analysed, installed, signed
from tests.system.processes import ROOT, Process, eventually, free_port
from worker.store import schema

#: The last commit of the release before this one. After a release, its tag.
PREVIOUS_RELEASE = "d776f52"
PREVIOUS_SCHEMA = "0009"

#: -P keeps the working directory out of the import path; PYTHONPATH names the code of the previous release.
PREVIOUS = (sys.executable, "-P", "-m", "worker")

ENOUGH = 20  # notifications that a receiver accepts in each phase

PAUSE = 0.02  # seconds between two notifications


class Sender:
    """Sends a notification of each asset to one of the `ports` after the other, and to the next one if a receiver is stopping."""

    def __init__(self, installation: Installation, ports: list[int]) -> None:
        self.ports = ports
        self.accepted: Counter[int] = Counter()
        self.media_ids: list[str] = []
        self.refused: list[str] = []
        self._installation = installation
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)

    def accepted_more(self, *ports: int) -> None:
        """Wait until each of the ports has accepted `ENOUGH` more notifications."""
        before = self.accepted.copy()
        eventually(
            lambda: all(self.accepted[port] >= before[port] + ENOUGH for port in ports),
            within=20,
            missing=lambda: f"{self.accepted} after {before}; refused: {self.refused}; logs:\n{self._installation.logs()[-3000:]}",
        )

    def _send_all(self) -> None:
        with httpx.Client(timeout=40, trust_env=False) as client:
            for turn, media_id in enumerate(self._library()):
                if self._stopping.wait(PAUSE):
                    return
                self._send(client, media_id, turn)

    def _library(self) -> Iterator[str]:
        for offset in itertools.count(0, 100):
            yield from self._installation.emulator.get("/media", params={"offset": offset}).json()["media_ids"]

    def _send(self, client: httpx.Client, media_id: str, turn: int) -> None:
        content = json.dumps(analysed(media_id)).encode()
        for attempt in itertools.count(turn):
            ports = self.ports
            port = ports[attempt % len(ports)]
            headers = signed(content, url=self._installation.callback_url)
            try:
                response = client.post(f"http://127.0.0.1:{port}/callbacks", content=content, headers=headers)
            except httpx.TransportError:
                if self._stopping.wait(PAUSE):
                    return
                continue
            if response.status_code == 200:
                self.accepted[port] += 1
                self.media_ids.append(media_id)
            else:
                self.refused.append(response.text)
            return


@contextmanager
def sending(installation: Installation, ports: list[int]) -> Iterator[Sender]:
    sender = Sender(installation, ports)
    sender._thread.start()
    try:
        yield sender
    finally:
        sender._stopping.set()
        sender._thread.join()


@pytest.fixture(scope="module")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the code of the previous release, which runs with the same libraries."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", PREVIOUS_RELEASE, "worker", "migrations"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        reason = f"there is no git history with the commit {PREVIOUS_RELEASE}; use a full clone"
        shallow = ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
        if subprocess.run(shallow, capture_output=True, text=True, check=False).stdout.strip() == "true":
            pytest.skip(reason)
        skip_or_fail(reason)
    folder = tmp_path_factory.mktemp("previous-release")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


in_matrix = pytest.mark.skipif("VODSYNC_TEST_WHOLE_MATRIX" not in os.environ, reason="`make matrix` runs it on this pair")


@pytest.mark.parametrize("pair", ["postgresql-rabbitmq", pytest.param("sqlite-embedded", marks=in_matrix)])
def test_an_upgrade_and_the_way_back_lose_nothing_under_load(pair: str, tmp_path: Path, previous_release: Path) -> None:
    with installed(PAIRS[pair], tmp_path) as installation:
        old_port, new_port = free_port(), installation.port
        old_code = {"PYTHONPATH": str(previous_release)}

        def start_previous(suffix: str) -> list[Process]:
            receiver = ("serve", "--port", str(old_port))
            started = [installation.start(f"old-receiver-{suffix}", *receiver, command=PREVIOUS, **old_code)]
            started.append(installation.start(f"old-worker-{suffix}", "work", "--beat", command=PREVIOUS, **old_code))
            eventually(lambda: is_ready(old_port), within=20, missing=lambda: installation.logs()[-3000:])
            return started

        schema.downgrade(installation.settings["VODSYNC_DATABASE_URL"], revision="base")
        assert installation.start("old-migrate", "migrate", command=PREVIOUS, **old_code).wait(within=20) == 0
        assert revision(installation) == PREVIOUS_SCHEMA
        installation.start_emulator("--media", "5000", notify=False)
        old = start_previous("before")
        with sending(installation, [old_port]) as sender:
            sender.accepted_more(old_port)

            assert installation.run("migrate").returncode == 0
            new = [installation.start("new-receiver", "serve"), installation.start("new-worker", "work", "--beat")]
            installation.wait_until_ready()
            sender.ports = [old_port, new_port]
            sender.accepted_more(old_port, new_port)

            sender.ports = [new_port]
            assert [process.stop() for process in old] == [0, 0]
            sender.accepted_more(new_port)

            old = start_previous("after")
            sender.ports = [old_port, new_port]
            sender.accepted_more(old_port, new_port)
            sender.ports = [old_port]
            assert [process.stop() for process in new] == [0, 0]
            sender.accepted_more(old_port)

        installation.wait_until_synced()
        assert 5 * ENOUGH < len(sender.media_ids) < 5000
        stored = {row["media_id"] for row in installation.database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}
        assert revision(installation) == schema.REVISION
        assert sender.refused == []
        assert stored == set(sender.media_ids)
        assert installation.database.value("SELECT count(*) FROM vod_sync_request WHERE state = 'dead'") == 0
        assert '"level":"error"' not in installation.logs()


def test_up_runs_on_the_schema_of_a_newer_release(tmp_path: Path) -> None:
    with installed(PAIRS["sqlite-embedded"], tmp_path) as installation:
        installation.start_emulator("--media", "1", notify=False)
        installation.database.do(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0042'")

        up = installation.start("up", "up")
        installation.wait_until_ready()
        (media_id,) = installation.emulator.get("/media").json()["media_ids"]
        installation.notify(analysed(media_id))
        eventually(lambda: installation.database.count("vod_media"), within=20, missing=lambda: up.log[-3000:])

        assert up.stop() == 0
        assert f"schema 0042 is newer than this release needs ({schema.REVISION}); running on it" in up.log
        assert revision(installation) == "0042"


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def revision(installation: Installation) -> str:
    return str(installation.database.value(f"SELECT version_num FROM {schema.VERSION_TABLE}"))
