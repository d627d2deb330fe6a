"""An installation whose roles and connections can be broken, and a record of the notifications that it accepted."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import monotonic_clock
from tests.chaos.delivery_check import find_losses
from tests.chaos.senders import AssetRecord, DeliveryRecord
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import VODSYNC, Process, eventually
from tests.system.proxy import Proxy, proxied

OUTAGE_KINDS = ["refuse", "freeze"]
SERVERS = ["postgresql-rabbitmq", "mariadb-redis"]

RESPONSE_LIMIT = 2.0  # seconds; VOD waits five for a response
LEASE = 2  # seconds

_COUNT_DUE = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"


class FaultHarness:
    """An installation whose roles connect to database, broker and API through proxies and can be killed at an exact moment.

    The test itself connects directly.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.record = DeliveryRecord()
        self._urls: dict[str, str] = {}
        installation.start_emulator("--media", "900", notify=False)
        self._library: Iterator[str] = iter(installation.emulator.get("/media?limit=900").json()["media_ids"])
        self.api = self._proxy("VODSYNC_ENDPOINT")
        if "VODSYNC_BROKER_URL" in installation.settings:
            self.database = self._proxy("VODSYNC_DATABASE_URL")
            self.broker = self._proxy("VODSYNC_BROKER_URL")
        self._serial = itertools.count(1)
        self._roles: list[Process] = []
        self._names = itertools.count(1)

    def _proxy(self, setting: str) -> Proxy:
        proxy, self._urls[setting] = proxied(self.installation.settings[setting])
        return proxy

    # Roles

    def start(self, role: str, *, fault: str | None = None, command: Sequence[str] = VODSYNC, **more: str) -> Process:
        """Start a role. `fault` (as in fault_injection/sitecustomize.py) injects one fault at one moment."""
        name = f"{next(self._names)}-{role}"
        settings = self._urls | more
        if fault:
            self.marker = self.installation.folder / f"{name}.fault"
            settings |= fault_settings(fault, self.marker)
        process = self.installation.start(name, role, command=command, **settings)
        self._roles.append(process)
        return process

    def start_receiver(self, fault: str | None = None, *, ready: bool = True) -> Process:
        process = self.start("serve", fault=fault)
        path = "/readyz" if ready else "/livez"
        eventually(lambda: self._answers(path), within=20, missing=lambda: f"200 from {path}; log:\n{process.log[-3000:]}")
        return process

    def start_worker(self, fault: str | None = None) -> Process:
        return self.start("work", fault=fault)

    def wait_for_fault(self) -> None:
        """Wait until the fault was injected."""
        eventually(
            self.marker.exists,
            within=20,
            missing=lambda: f"the injected fault; logs:\n{self.installation.logs()[-4000:]}",
            pause=0.005,
        )

    def release(self) -> None:
        """Let the role that is held at its fault continue."""
        self.marker.unlink()

    def clear(self) -> None:
        """Kill all roles and restore all connections, for the next test."""
        for proxy in (self.api, *((self.database, self.broker) if hasattr(self, "broker") else ())):
            proxy.restore()
        for role in self._roles:
            role.signal(signal.SIGCONT)
            role.kill()
        self._roles.clear()

    def close(self) -> None:
        self.clear()
        # These roles were killed on purpose: the installation shall not check their exit codes.
        self.installation.processes = {"emulator": self.installation.processes["emulator"]}

    # VOD

    def new_notification(self) -> dict[str, Any]:
        """Return a notification of an asset that no earlier notification named."""
        return analysed(next(self._library), Serial=next(self._serial))

    def send(self, body: dict[str, Any]) -> int | None:
        """Send a notification and return the status, or None without a response. A status of 200 is recorded."""
        started = monotonic_clock.seconds()
        try:
            status = self.installation.notify(body).status_code
        except httpx.TransportError:
            return None
        assert monotonic_clock.seconds() - started < RESPONSE_LIMIT
        if status == 200:
            self.record_accepted(body)
        return status

    def record_accepted(self, body: dict[str, Any]) -> None:
        """Record that this notification must be stored from now on."""
        self.record.accepted.add(body["Serial"])
        asset = self.record.assets.setdefault(body["VideoId"], AssetRecord())
        asset.accepted, asset.is_current = asset.accepted + 1, True

    # Results

    def deliveries(self, body: dict[str, Any]) -> int:
        """Return how many deliveries of the notification are stored."""
        rows = self.installation.database.rows(
            "SELECT body, deliveries FROM vod_notification WHERE media_id = :id", id=body["VideoId"]
        )
        return sum(row["deliveries"] for row in rows if json.loads(row["body"])["Serial"] == body["Serial"])

    def stored(self, *bodies: dict[str, Any]) -> bool:
        """Return whether each of these assets is stored and no request is due. Requests that wait for VOD do not count."""
        database = self.installation.database
        ok = {row["media_id"] for row in database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}
        return all(body["VideoId"] in ok for body in bodies) and not database.value(_COUNT_DUE)

    def calls(self) -> int:
        return int(self.installation.calls()["calls"])

    def assert_delivered(self, *bodies: dict[str, Any], within: float = 25) -> None:
        """Wait until these assets are stored, then compare the database with the record and the emulator."""
        eventually(lambda: self.stored(*bodies), within=within, missing=lambda: f"rows; logs:\n{self.installation.logs()[-6000:]}")
        assert find_losses(self.installation, self.record) == []
        assert {body["VideoId"] for body in bodies} <= self.record.assets.keys()

    def _answers(self, path: str) -> bool:
        with suppress(httpx.TransportError):
            return self.installation.http.get(path).status_code == 200
        return False


@contextmanager
def fault_harness(pair: str, folder: Path, **settings: str) -> Iterator[FaultHarness]:
    with installed(PAIRS[pair], folder, VODSYNC_LEASE=str(LEASE), **settings) as installation:
        harness = FaultHarness(installation)
        yield harness
        harness.close()


def fault_settings(fault: str, marker: Path) -> dict[str, str]:
    """Return the environment that injects `fault` into a role; `marker` appears at that moment."""
    folder = str(Path(__file__).with_name("fault_injection"))
    return {"FAULT": fault, "FAULT_MARKER": str(marker), "PYTHONPATH": folder}


#: For faults of the servers, which SQLite and the embedded broker do not have.
with_servers = pytest.mark.parametrize("shared_harness", SERVERS, indirect=True)


def start_outage(proxy: Proxy, kind: str) -> None:
    """Refuse connections or freeze them, until `proxy.restore()`."""
    {"refuse": proxy.cut, "freeze": proxy.freeze}[kind]()
