"""An installation for the tests of `vodsync doctor`, with fakes for VOD, queue and broker."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import kombu
import pytest
from typer.testing import CliRunner

from worker import runtime, settings
from worker.cli.output import Exit
from worker.core.errors import VodError
from worker.store import Store
from worker.store.heartbeats import Heartbeat, Heartbeats

CALLBACK_URL = "https://vod.example/callbacks"
SECRET = "very-secret-key"
QUEUE = {"VODSYNC_SMQ_ENDPOINT": "https://1.mns.example", "VODSYNC_SMQ_QUEUE": "vod-events"}
ENVIRON = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "id",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
    "VODSYNC_CALLBACK_URL": CALLBACK_URL,
    "VODSYNC_CALLBACK_KEYS": "key1key1",
}


class AnsweringVod:
    """VOD as the doctor calls it. Raises `fault`, or answers; its clock is `ahead` of ours."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.settings_fault: VodError | None = None
        self.ahead: timedelta | None = timedelta(0)
        self.settings: dict[str, Any] = {"CallbackURL": CALLBACK_URL, "AuthSwitch": "on", "EventTypeList": "ALL"}

    @property
    def server_time(self) -> Any:
        return None if self.ahead is None else runtime.machine_time() + self.ahead

    def batch_get_media_infos(self, media_ids: list[str]) -> dict[str, Any]:
        if self.fault:
            raise self.fault
        return {"NonExistMediaIds": media_ids}

    def get_message_callback(self) -> dict[str, Any]:
        if self.settings_fault:
            raise self.settings_fault
        return {"MessageCallback": self.settings}


class AnsweringQueue:
    """A queue with `messages` messages. If that is an error, `check` raises it."""

    name = "vod-events"

    def __init__(self) -> None:
        self.messages: int | VodError = 0
        self.is_closed = False

    def check(self) -> int:
        if isinstance(self.messages, VodError):
            raise self.messages
        return self.messages

    def close(self) -> None:
        self.is_closed = True


class Broker:
    """Replaces the Celery application. Its broker is in this process."""

    def __init__(self) -> None:
        self.connection_type: type[kombu.Connection] = kombu.Connection

    def connection_for_write(self) -> kombu.Connection:
        return self.connection_type("memory://")


class Harness:
    """An installation without faults, until a test changes something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.monkeypatch, self.store = monkeypatch, store
        self.vod, self.queue, self.broker = AnsweringVod(), AnsweringQueue(), Broker()
        monkeypatch.setattr("worker.vod.client.Client", lambda _source: self.vod)
        monkeypatch.setattr("worker.vod.smq.Queue", lambda _source: self.queue)
        # Where the tests import vodsync from is not part of the installation that they check.
        monkeypatch.setattr("worker.cli.doctor.check_imports", lambda: "vodsync is installed")
        self.runtime = self.configure()
        from worker.queue import celery_app

        monkeypatch.setattr(celery_app, "app", self.broker)
        now = store.now()
        store.transact(lambda connection: Heartbeats(connection).beat(Heartbeat("w:1", now, now, now)))

    def configure(self, **environ: str) -> runtime.Runtime:
        """Replace the runtime: the usual settings with these changes. An empty value removes a setting."""
        chosen = {name: value for name, value in (ENVIRON | environ).items() if value}
        self.runtime = runtime.Runtime(settings.load(environ=chosen))
        self.monkeypatch.setattr(runtime, "_current", self.runtime)
        vars(self.runtime)["store"] = self.store
        return self.runtime

    def doctor(self, *options: str) -> Any:
        from worker.cli.application import app

        return CliRunner().invoke(app, ["doctor", *options])

    def findings(self) -> dict[str, tuple[str, str]]:
        """Return verdict and text of each part. The exit code fits the worst verdict."""
        result = self.doctor("--json")
        findings = {line["part"]: (line["verdict"], line["says"]) for line in json.loads(result.stdout)}
        is_bad = any(verdict == "bad" for verdict, _ in findings.values())
        assert result.exit_code == (Exit.FAILED if is_bad else Exit.DONE)
        return findings

    def finding(self, part: str) -> tuple[str, str]:
        return self.findings()[part]
