"""An installation in which everything can be struck, cut off and frozen, beside a record of what was promised."""

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
from tests.chaos.delivery_check import broken
from tests.chaos.senders import Ledger, Told
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import VODSYNC, Process, eventually
from tests.system.proxy import Proxy, proxied

KINDS = ["refuse", "freeze"]
SERVERS = ["postgresql-rabbitmq", "mariadb-redis"]

#: Seconds. VOD waits five for an answer.
PATIENCE, LEASE = 2.0, 2

_OWED = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"


class FaultHarness:
    """An installation whose roles reach database, broker and API through proxies, and die on command; the test itself does not."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.ledger = Ledger()
        self._urls: dict[str, str] = {}
        installation.start_emulator("--media", "900", telling=False)
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

    def start(self, role: str, *, strike: str | None = None, command: Sequence[str] = VODSYNC, **more: str) -> Process:
        """With `strike` (as in fault_injection/sitecustomize.py) it is struck once, at that moment."""
        name = f"{next(self._names)}-{role}"
        settings = self._urls | more
        if strike:
            self.sign = self.installation.folder / f"{name}.struck"
            striking = str(Path(__file__).with_name("fault_injection"))
            settings |= {"STRIKE_AT": strike, "STRIKE_SIGN": str(self.sign), "PYTHONPATH": striking}
        process = self.installation.start(name, role, command=command, **settings)
        self._roles.append(process)
        return process

    def receiver(self, strike: str | None = None, *, ready: bool = True) -> Process:
        process = self.start("serve", strike=strike)
        path = "/readyz" if ready else "/livez"
        eventually(lambda: self._answers(path), within=20, missing=lambda: f"200 from {path}; log:\n{process.log[-3000:]}")
        return process

    def worker(self, strike: str | None = None) -> Process:
        return self.start("work", strike=strike)

    def struck(self) -> None:
        """Wait until the blow has fallen."""
        eventually(self.sign.exists, within=20, missing=lambda: f"the blow; logs:\n{self.installation.logs()[-4000:]}", pause=0.005)

    def release(self) -> None:
        """Let go of the role that is held."""
        self.sign.unlink()

    def clear(self) -> None:
        """What the next cell needs: no role, and everything else as it should be."""
        for proxy in (self.api, *((self.database, self.broker) if hasattr(self, "broker") else ())):
            proxy.restore()
        for role in self._roles:
            role.signal(signal.SIGCONT)
            role.kill()
        self._roles.clear()

    def close(self) -> None:
        self.clear()
        # Killed with intent; what else ended is looked at by the installation.
        self.installation.processes = {"emulator": self.installation.processes["emulator"]}

    # VOD

    def news(self) -> dict[str, Any]:
        """A notification of a medium that nobody was told of yet."""
        return analysed(next(self._library), Serial=next(self._serial))

    def send(self, body: dict[str, Any]) -> int | None:
        """The status; None where no answer came. What was answered 200 is promised from now on."""
        began = monotonic_clock.seconds()
        try:
            status = self.installation.notify(body).status_code
        except httpx.TransportError:
            return None
        assert monotonic_clock.seconds() - began < PATIENCE
        if status == 200:
            self.promise(body)
        return status

    def promise(self, body: dict[str, Any]) -> None:
        self.ledger.answered.add(body["Serial"])
        told = self.ledger.media.setdefault(body["VideoId"], Told())
        told.answered, told.current = told.answered + 1, True

    # What came of it

    def deliveries(self, body: dict[str, Any]) -> int:
        """How often the notification was written down."""
        rows = self.installation.database.rows(
            "SELECT body, deliveries FROM vod_notification WHERE media_id = :id", id=body["VideoId"]
        )
        return sum(row["deliveries"] for row in rows if json.loads(row["body"])["Serial"] == body["Serial"])

    def stored(self, *bodies: dict[str, Any]) -> bool:
        """Whether each of these media has its rows, and nothing is owed any more but a look at what VOD is still at work on."""
        database = self.installation.database
        ok = {row["media_id"] for row in database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}
        return all(body["VideoId"] in ok for body in bodies) and not database.value(_OWED)

    def calls(self) -> int:
        return int(self.installation.calls()["calls"])

    def assert_promise_kept(self, *bodies: dict[str, Any], within: float = 25) -> None:
        """Wait until everything has arrived, then compare it with the record."""
        eventually(lambda: self.stored(*bodies), within=within, missing=lambda: f"rows; logs:\n{self.installation.logs()[-6000:]}")
        assert broken(self.installation, self.ledger) == []
        assert {body["VideoId"] for body in bodies} <= self.ledger.media.keys()

    def _answers(self, path: str) -> bool:
        with suppress(httpx.TransportError):
            return self.installation.http.get(path).status_code == 200
        return False


@contextmanager
def fault_harness(pair: str, folder: Path, **settings: str) -> Iterator[FaultHarness]:
    with installed(PAIRS[pair], folder, VODSYNC_LEASE=str(LEASE), **settings) as ready:
        made = FaultHarness(ready)
        yield made
        made.close()


#: Where database and broker are servers; SQLite and the embedded broker have none to lose.
with_servers = pytest.mark.parametrize("shared", SERVERS, indirect=True)


def break_(proxy: Proxy, kind: str) -> None:
    {"refuse": proxy.cut, "freeze": proxy.freeze}[kind]()
