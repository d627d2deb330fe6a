"""One run: an installation under load and under fire, then peace, then the reckoning."""

from __future__ import annotations

import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.chaos import delivery_check, plan
from tests.chaos.roles import Role, answers
from tests.chaos.senders import Ledger, Sender
from tests.system.installation import PAIRS, Installation, installed
from tests.system.processes import eventually
from tests.system.proxy import Proxy

#: Media that are in the library from the start.
_LIBRARY = 1000

_SENDERS = 12

#: Seconds in which everything has to be worked off once the faults are over. A request that failed often waits up to five minutes.
_DRAIN = 400.0

#: Seconds between two lines of progress.
_PROGRESS = 5.0

#: The system tests use another, so that both can run at once.
_REDIS_DATABASE = 8

#: Where the kernel takes no port for outgoing connections: a port that is free for a moment has to be ours again afterwards.
_PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Outcome:
    """What happened in one run, and what came of it."""

    seed: int
    pair: str
    minutes: float
    sent: int = 0
    answered: int = 0
    media: int = 0
    kills: int = 0
    stops: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    drained_seconds: float | None = None
    #: What breaks the promise, a sentence each.
    lost: list[str] = field(default_factory=list)
    #: What breaks no promise and should not happen either: a role that ended by itself, a traceback or a secret in a log.
    complaints: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not self.lost and not self.complaints

    def summary(self) -> str:
        """One line."""
        drained = "never drained" if self.drained_seconds is None else f"drained in {self.drained_seconds:.1f} s"
        return (
            f"seed {self.seed}  {self.pair}  {self.minutes:g} min  sent {self.sent}  answered 200: {self.answered}  "
            f"media {self.media}  kills {self.kills}  stops {self.stops}  faults {_counts(self.faults)}  "
            f"tries refused {_counts(self.refused)}  lost {len(self.lost)}  dead {self.dead}  {drained}"
            + (f"  complaints {len(self.complaints)}" if self.complaints else "")
        )


def run(pair: str, folder: Path, *, seed: int, minutes: float, per_second: float = 30) -> Outcome:
    """Play the faults of `seed` for so many minutes on `pair`; logs go to `folder`, and `outcome.json` where something was lost."""
    outcome = Outcome(seed, pair, minutes)
    try:
        with _scene(pair, folder) as scene:
            scene.play(outcome, per_second=per_second)
    except AssertionError as error:
        outcome.complaints.append(str(error))
    if not outcome.kept:
        (folder / "outcome.json").write_bytes(msgspec.json.format(msgspec.json.encode(outcome)))
    return outcome


class Scene:
    """Everything that can be struck. The emulator and we ourselves reach the servers on another way."""

    def __init__(self, installation: Installation, proxies: dict[str, Proxy]) -> None:
        self.installation = installation
        self._proxies = proxies
        self._ports = [_free_port(), _free_port()]
        settings = dict(zip(proxies, ("VODSYNC_DATABASE_URL", "VODSYNC_BROKER_URL"), strict=False))
        self._urls = {name: _through(proxies[target], installation.settings[name]) for target, name in settings.items()}
        starts: dict[str, Callable[[], object]] = {}
        for name, port in zip(("receiver-1", "receiver-2"), self._ports, strict=True):
            starts[name] = partial(installation.start, name, "serve", **self._urls, VODSYNC_PORT=str(port))
        starts["worker-1"] = partial(installation.start, "worker-1", "work", "--beat", **self._urls)
        starts["worker-2"] = partial(installation.start, "worker-2", "work", **self._urls)
        self.roles = {name: Role(name, starts[name]) for name in plan.ROLES}

    def play(self, outcome: Outcome, *, per_second: float) -> None:
        """Load and faults, then the end of both, then the check; writes what it sees into `outcome`."""
        self._wait_until_ready()
        senders = self._senders(outcome.seed, per_second)
        for sender in senders:
            sender.start()
        try:
            self._fire(outcome, [sender.ledger for sender in senders])
        finally:
            for sender in senders:
                sender.stop()
            self._make_peace()
        for sender in senders:
            sender.join()
            if sender.error is not None:
                raise sender.error
        ledger = Ledger.together([sender.ledger for sender in senders])
        outcome.sent, outcome.answered, outcome.media = ledger.sent, len(ledger.answered), len(ledger.media)
        outcome.refused = ledger.refused
        outcome.kills = sum(role.struck["kill"] for role in self.roles.values())
        outcome.stops = sum(role.struck["stop"] for role in self.roles.values())
        outcome.drained_seconds = self._drain(outcome.pair)
        outcome.complaints += [complaint for role in self.roles.values() for complaint in role.complaints]
        outcome.dead = len(delivery_check.dead_letters(self.installation.database))
        if outcome.drained_seconds is None:
            outcome.lost.append(f"after {_DRAIN:g} s there is still due: {self._what_is_due()}")
        outcome.lost += delivery_check.broken(self.installation, ledger)

    def _senders(self, seed: int, per_second: float) -> list[Sender]:
        library = self.installation.emulator.get(f"/media?limit={_LIBRARY}").json()["media_ids"]
        return [
            Sender(
                seed=f"{seed}:{number}",
                library=library[number::_SENDERS],
                emulator_url=str(self.installation.emulator.base_url),
                callback_url=self.installation.callback_url,
                ports=self._ports,
                per_second=per_second / _SENDERS,
            )
            for number in range(_SENDERS)
        ]

    def _fire(self, outcome: Outcome, ledgers: Sequence[Ledger]) -> None:
        began = said_at = time.monotonic()
        endings: list[tuple[float, Callable[[], object]]] = []
        for fault in plan.faults(outcome.seed, servers=bool(self._proxies)):
            if fault.at > outcome.minutes * 60:
                break
            while (now := time.monotonic()) < began + fault.at:
                for ending in [each for each in endings if each[0] <= now]:
                    endings.remove(ending)
                    ending[1]()
                for role in self.roles.values():
                    role.look_after()
                if now - said_at > _PROGRESS:
                    said_at = now
                    self._say(outcome, now - began, ledgers)
                time.sleep(0.02)
            end = self._strike(fault, outcome)
            if end is not None:
                endings.append((began + fault.at + fault.seconds, end))

    def _strike(self, fault: plan.Fault, outcome: Outcome) -> Callable[[], object] | None:
        """Let `fault` begin; what ends it."""
        if fault.target in self.roles:
            first = plan.ROLES.index(fault.target)
            # Where the victim is away just now, the next one that is there is hit in its place. Roles that are killed before they
            # could do anything have nothing to lose, so on a slow machine there are fewer kills.
            for name in (*plan.ROLES[first:], *plan.ROLES[:first]):
                role = self.roles[name]
                if role.running if fault.early else role.at_work:
                    (role.kill if fault.kind == "kill" else role.stop)(pause=fault.seconds)
                    break
            return None
        if fault.target == "api":
            outcome.faults[fault.kind] += 1
            # Longer than a call may take, and longer than the lease.
            rule = {"probability": fault.share, "seconds": fault.seconds * 2}
            self.installation.emulator.put("/faults", json={fault.kind: rule}).raise_for_status()
            return lambda: self.installation.emulator.delete("/faults").raise_for_status()
        outcome.faults[f"{fault.target} {fault.kind}"] += 1
        proxy = self._proxies[fault.target]
        (proxy.cut if fault.kind == "cut" else proxy.freeze)()
        return proxy.restore

    def _make_peace(self) -> None:
        for proxy in self._proxies.values():
            proxy.restore()
        self.installation.emulator.delete("/faults")
        for role in self.roles.values():
            role.settle()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for port in self._ports:
            eventually(lambda port=port: answers(port, "/readyz"), within=60, missing=f"200 from port {port}")

    def _drain(self, pair: str) -> float | None:
        """Seconds until nothing is due and nothing is spooled; None where that did not come."""
        began = said_at = time.monotonic()
        while (now := time.monotonic()) - began < _DRAIN:
            if not delivery_check.due(self.installation.database) and not self._spooled():
                return now - began
            for role in self.roles.values():
                role.look_after()
            if now - said_at > _PROGRESS:
                said_at = now
                print(
                    f"chaos {pair}  draining {now - began:.0f} s  due {delivery_check.due(self.installation.database)}",
                    file=sys.stderr,
                )
            time.sleep(0.1)
        return None

    def _spooled(self) -> int:
        """Deliveries in the spool, which both receivers share; none where SQLite is the database."""
        if not self._proxies:
            return 0
        status = self.installation.http.get(f"http://127.0.0.1:{self._ports[0]}/statusz").json()
        return int(status["spool"]["count"])

    def _what_is_due(self) -> str:
        return str(self.installation.database.rows("SELECT * FROM vod_sync_request WHERE state = 'due' AND waits = 0")[:3])

    def _say(self, outcome: Outcome, elapsed: float, ledgers: Sequence[Ledger]) -> None:
        sent = sum(ledger.sent for ledger in ledgers)
        answered = sum(len(ledger.answered) for ledger in ledgers)
        kills = sum(role.struck["kill"] for role in self.roles.values())
        away = [name for name, role in self.roles.items() if not role.running]
        print(
            f"chaos {outcome.pair}  {elapsed:.0f} of {outcome.minutes * 60:.0f} s  sent {sent}  answered 200: {answered}  "
            f"kills {kills}  faults {outcome.faults.total()}  due {delivery_check.due(self.installation.database)}"
            + (f"  away {', '.join(away)}" if away else ""),
            file=sys.stderr,
        )


@contextmanager
def _scene(pair: str, folder: Path) -> Iterator[Scene]:
    with installed(PAIRS[pair], folder, redis_database=_REDIS_DATABASE, VODSYNC_LEASE="5") as installation:
        installation.start_emulator("--media", str(_LIBRARY), telling=False)
        proxies = {}
        if "VODSYNC_BROKER_URL" in installation.settings:
            for target in ("database", "broker"):
                parts = urlsplit(installation.settings[f"VODSYNC_{target.upper()}_URL"])
                proxies[target] = Proxy((parts.hostname or "", parts.port or 0), port=_free_port())
        try:
            yield Scene(installation, proxies)
        finally:
            for proxy in proxies.values():
                proxy.restore()


def _through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{proxy.port}")


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _counts(counter: Counter[str]) -> str:
    return f"{counter.total()} ({', '.join(f'{name} {count}' for name, count in sorted(counter.items()))})" if counter else "0"
