"""SQLite without space: the receiver is not ready, says why in few lines, and is ready again by itself when there is space."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.installation import Installation, analysed
from tests.system.processes import Process, eventually

FAILED = 1

DISK_SIZE = 8 * 2**20  # bytes
FILE_NAME = "vodsync.db"

#: A notification that does not fit into a rest of a page.
LARGE = "x" * 50_000


class TemporaryDisk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", folder], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"a file system cannot be mounted: {mounted.stderr.strip()}")

    def fill(self, _receiver: Process) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            free = shutil.disk_usage(self.folder).free
            filler.write(bytes(free))

    def free(self, _receiver: Process) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


class FileSizeLimit:
    """A limit of the receiver process that its files cannot grow beyond."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, receiver: Process) -> None:
        size = (self.folder / f"{FILE_NAME}-wal").stat().st_size
        resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self, receiver: Process) -> None:
        resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        pass


@pytest.fixture(params=[TemporaryDisk, FileSizeLimit])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TemporaryDisk | FileSizeLimit]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = request.param(folder)
    yield disk
    disk.close()


@pytest.fixture
def installation(disk: TemporaryDisk | FileSizeLimit, tmp_path: Path) -> Iterator[Installation]:
    """A receiver whose database is on the disk. Nothing listens where VOD should be."""
    url = f"sqlite:///{disk.folder / FILE_NAME}"
    installation = Installation(tmp_path, database_url=url, broker_url=None, VODSYNC_ENDPOINT="http://127.0.0.1:1")
    assert installation.run("migrate").returncode == 0
    installation.start("receiver", "serve")
    installation.wait_until_ready()
    yield installation
    installation.close()


def test_a_receiver_without_space_is_not_ready_until_there_is_space(
    disk: TemporaryDisk | FileSizeLimit, installation: Installation
) -> None:
    receiver = installation.processes["receiver"]
    # The write-ahead log exists and has this size.
    assert [installation.notify(analysed(f"before-{number}", Note=LARGE)).status_code for number in range(4)] == [200] * 4

    disk.fill(receiver)
    statuses = {installation.notify(analysed(f"full-{number}", Note=LARGE)).status_code for number in range(100)}
    ready = installation.http.get("/readyz")
    status = installation.http.get("/statusz").json()
    doctor = installation.run("doctor", "--json") if isinstance(disk, TemporaryDisk) else None
    lines = [line for line in receiver.log.splitlines() if '"level":"error"' in line.replace(" ", "")]
    disk.free(receiver)
    eventually(
        lambda: installation.http.get("/readyz").status_code == 200,
        within=20,
        missing=lambda: f"200 from /readyz: {installation.http.get('/readyz').text}",
    )
    after = installation.notify(analysed("after", Note=LARGE)).status_code

    assert statuses == {503}
    assert (ready.status_code, ready.json()["reason"], ready.json()["parts"]["database"]["state"]) == (503, "database", "down")
    assert status["database"]["state"] == "down"
    assert any("notifications cannot be written to the database" in problem for problem in status["problems"])
    assert 1 <= len(lines) <= 3, lines
    if doctor is not None:
        (line,) = [line for line in json.loads(doctor.stdout) if line["part"] == "database"]
        assert (doctor.returncode, line["verdict"]) == (FAILED, "bad")
    assert after == 200
    stored = {row["media_id"] for row in installation.database.table("vod_notification")}
    assert stored == {*(f"before-{number}" for number in range(4)), "after"}
    assert "notifications are stored again" in receiver.log
