"""A foreign `worker` in the working directory is not run in place of vodsync."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import httpx
import pytest

from tests.system.processes import Process, clean_environment, eventually, free_port

#: The command as a person runs it. The tests' usual `python -m worker` would import the foreign module itself.
VODSYNC = str(Path(sysconfig.get_path("scripts"), "vodsync"))

FOREIGN = """
import pathlib, sys
with pathlib.Path({marker!r}).open("a") as marker:
    print(*sys.argv, file=marker)
"""


class Folder:
    """A working directory with a foreign module `worker`, which leaves a marker if it is ever imported."""

    def __init__(self, path: Path, module: str) -> None:
        self.path = path / "working directory"
        self.marker = path / "marker"
        self.foreign = self.path / module
        for name in (module, "worker/__main__.py") if module.startswith("worker/") else (module,):
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(FOREIGN.format(marker=str(self.marker)))
        self.port = free_port()
        settings = {
            "TMPDIR": str(path),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": "id",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret",
            "VODSYNC_ENDPOINT": "http://127.0.0.1:9",
            "VODSYNC_CALLBACK_URL": "http://127.0.0.1/callbacks",
            "VODSYNC_CALLBACK_KEYS": "Test1Key",
            "VODSYNC_PORT": str(self.port),
        }
        self.environment = clean_environment(settings, path)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [VODSYNC, *arguments]
        return subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=300)

    def start(self, *arguments: str) -> Process:
        return Process([VODSYNC, *arguments], folder=self.path, environment=self.environment, log=self.path / "log")

    def wait_until_ready(self, process: Process) -> None:
        eventually(self._is_ready, within=40, missing=lambda: f"a receiver; the log: {process.log}")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def has_worker(self) -> bool:
        return bool(json.loads(self.run("status", "--json").stdout)["workers"])


@pytest.fixture(params=["worker.py", "worker/__init__.py"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path, request.param)


def test_verbs_that_print_run_the_installed_product(folder: Folder) -> None:
    migrated = folder.run("migrate")
    config = folder.run("config")
    status = folder.run("status")
    doctor = folder.run("doctor", "--json")

    assert (migrated.returncode, config.returncode, status.returncode) == (0, 0, 0), migrated.stderr + config.stderr + status.stderr
    assert f"VODSYNC_PORT={folder.port}" in config.stdout
    assert "sync requests due" in status.stdout
    (installation,) = [line for line in json.loads(doctor.stdout) if line["part"] == "installation"]
    assert installation["verdict"] == "unsure"
    assert str(folder.foreign).removesuffix("/__init__.py") in installation["says"]
    assert not folder.marker.exists()


def test_demo_starts_the_installed_product(folder: Folder) -> None:
    demo = folder.run("demo", "--media", "5")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "all 5 media arrived" in demo.stderr
    assert not folder.marker.exists()


def test_up_starts_the_installed_product(folder: Folder) -> None:
    up = folder.start("up")
    try:
        folder.wait_until_ready(up)
        eventually(folder.has_worker, within=40, missing=lambda: f"a worker; the log: {up.log}")
    finally:
        code = up.stop(within=40)

    assert code == 0, up.log
    assert not folder.marker.exists()


def test_several_receiver_processes_run_the_installed_product(folder: Folder) -> None:
    folder.run("migrate")
    receiver = folder.start("serve", "--workers", "2")
    try:
        folder.wait_until_ready(receiver)
    finally:
        code = receiver.stop(within=40)

    assert code == 0, receiver.log
    assert not folder.marker.exists()
