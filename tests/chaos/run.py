"""One run: an installation under load and faults, then recovery, then the check."""

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
from tests.chaos.senders import DeliveryRecord, Sender
from tests.system.installation import PAIRS, Installation, installed
from tests.system.processes import Process, eventually
from tests.system.proxy import Proxy

_LIBRARY = 1000  # assets in the library from the start

_SENDERS = 12

#: Seconds in which all requests have to be completed after the faults. A request that failed often waits up to five minutes.
_DRAIN_LIMIT = 400.0

_PROGRESS_INTERVAL = 5.0  # seconds

#: The system tests use others, so that both can run at the same time.
_REDIS_DATABASE = 8

#: Ports that the kernel does not use for outgoing connections, so that a port stays free while its role or proxy is down.
_PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Outcome:
    """The counters and the result of one run."""

    seed: int
    pair: str
    minutes: float
    sent: int = 0
    accepted: int = 0
    assets: int = 0
    kills: int = 0
    stops: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    drained_seconds: float | None = None
    #: Losses and differences, a sentence each.
    lost: list[str] = field(default_factory=list)
    #: Other defects: a role that ended by itself, a traceback or a secret in a log.
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.lost and not self.problems

    def summary(self) -> str:
        """One line."""
        drained = "never drained" if self.drained_seconds is None else f"drained in {self.drained_seconds:.1f} s"
        return (
            f"seed {self.seed}  {self.pair}  {self.minutes:g} min  sent {self.sent}  answered 200: {self.accepted}  "
            f"media {self.assets}  kills {self.kills}  stops {self.stops}  faults {_counts(self.faults)}  "
            f"tries refused {_counts(self.refused)}  lost {len(self.lost)}  dead {self.dead}  {drained}"
            + (f"  problems {len(self.problems)}" if self.problems else "")
        )


def run(pair: str, folder: Path, *, seed: int, minutes: float, per_second: float = 30) -> Outcome:
    """Inject the faults of `seed` for `minutes` on `pair`. Logs are written to `folder`, and `outcome.json` if the run fails."""
    outcome = Outcome(seed, pair, minutes)
    try:
        with _target(pair, folder) as target:
            target.run(outcome, per_second=per_second)
    except AssertionError as error:
        outcome.problems.append(str(error))
    if not outcome.passed:
        (folder / "outcome.json").write_bytes(msgspec.json.format(msgspec.json.encode(outcome)))
    return outcome


class Target:
    """The roles and connections that faults affect. The emulator and the check connect directly."""

    def __init__(self, installation: Installation, proxies: dict[str, Proxy]) -> None:
        self.installation = installation
        self._proxies = proxies
        self._ports = [_free_port(), _free_port()]
        setting_names = dict(zip(proxies, ("VODSYNC_DATABASE_URL", "VODSYNC_BROKER_URL"), strict=False))
        self._urls = {name: _through(proxies[target], installation.settings[name]) for target, name in setting_names.items()}
        starts: dict[str, Callable[[], Process]] = {}
        for name, port in zip(("receiver-1", "receiver-2"), self._ports, strict=True):
            starts[name] = partial(installation.start, name, "serve", **self._urls, VODSYNC_PORT=str(port))
        starts["worker-1"] = partial(installation.start, "worker-1", "work", "--beat", **self._urls)
        starts["worker-2"] = partial(installation.start, "worker-2", "work", **self._urls)
        self.roles = {name: Role(name, starts[name]) for name in plan.ROLES}

    def run(self, outcome: Outcome, *, per_second: float) -> None:
        """Send notifications and inject faults, then recover, then check. Writes the results into `outcome`."""
        self._wait_until_ready()
        senders = self._senders(outcome.seed, per_second)
        for sender in senders:
            sender.start()
        try:
            self._inject_faults(outcome, [sender.record for sender in senders])
        finally:
            for sender in senders:
                sender.stop()
            self._recover()
        for sender in senders:
            sender.join()
            if sender.error is not None:
                raise sender.error
        record = DeliveryRecord.merge([sender.record for sender in senders])
        outcome.sent, outcome.accepted, outcome.assets = record.sent, len(record.accepted), len(record.assets)
        outcome.refused = record.refused
        outcome.kills = sum(role.injected["kill"] for role in self.roles.values())
        outcome.stops = sum(role.injected["stop"] for role in self.roles.values())
        outcome.drained_seconds = self._drain(outcome.pair)
        outcome.problems += [problem for role in self.roles.values() for problem in role.problems]
        outcome.dead = len(delivery_check.dead_letters(self.installation.database))
        if outcome.drained_seconds is None:
            outcome.lost.append(f"after {_DRAIN_LIMIT:g} s there are still requests due: {self._describe_due()}")
        outcome.lost += delivery_check.find_losses(self.installation, record)

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

    def _inject_faults(self, outcome: Outcome, records: Sequence[DeliveryRecord]) -> None:
        started = printed_at = time.monotonic()
        endings: list[tuple[float, Callable[[], object]]] = []
        for fault in plan.faults(outcome.seed, servers=bool(self._proxies)):
            if fault.at > outcome.minutes * 60:
                break
            while (now := time.monotonic()) < started + fault.at:
                for ending in [due for due in endings if due[0] <= now]:
                    endings.remove(ending)
                    ending[1]()
                for role in self.roles.values():
                    role.supervise()
                if now - printed_at > _PROGRESS_INTERVAL:
                    printed_at = now
                    self._print_progress(outcome, now - started, records)
                time.sleep(0.02)
            end = self._start_fault(fault, outcome)
            if end is not None:
                endings.append((started + fault.at + fault.seconds, end))

    def _start_fault(self, fault: plan.Fault, outcome: Outcome) -> Callable[[], object] | None:
        """Start `fault`. Returns the function that ends it, if it does not end by itself."""
        if fault.target in self.roles:
            first = plan.ROLES.index(fault.target)
            # If the role is down, the next running role is killed instead. A role that has not started yet has nothing to lose and
            # is not killed unless the fault is early, so there are fewer kills on a slow machine.
            for name in (*plan.ROLES[first:], *plan.ROLES[:first]):
                role = self.roles[name]
                if role.running if fault.early else role.has_started:
                    (role.kill if fault.kind == "kill" else role.stop)(pause=fault.seconds)
                    break
            return None
        if fault.target == "api":
            outcome.faults[fault.kind] += 1
            # Longer than the timeout of a call, and longer than the lease.
            rule = {"probability": fault.share, "seconds": fault.seconds * 2}
            self.installation.emulator.put("/faults", json={fault.kind: rule}).raise_for_status()
            return self._clear_api_faults
        outcome.faults[f"{fault.target} {fault.kind}"] += 1
        proxy = self._proxies[fault.target]
        (proxy.cut if fault.kind == "cut" else proxy.freeze)()
        return proxy.restore

    def _clear_api_faults(self) -> None:
        self.installation.emulator.delete("/faults").raise_for_status()

    def _recover(self) -> None:
        for proxy in self._proxies.values():
            proxy.restore()
        self.installation.emulator.delete("/faults")
        for role in self.roles.values():
            role.wait_until_running()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for port in self._ports:
            eventually(partial(answers, port, "/readyz"), within=60, missing=f"200 from port {port}")

    def _drain(self, pair: str) -> float | None:
        """Return the seconds until no request is due and the spool is empty, or None if that took too long."""
        started = printed_at = time.monotonic()
        while (now := time.monotonic()) - started < _DRAIN_LIMIT:
            if not delivery_check.due(self.installation.database) and not self._spooled():
                return now - started
            for role in self.roles.values():
                role.supervise()
            if now - printed_at > _PROGRESS_INTERVAL:
                printed_at = now
                print(
                    f"chaos {pair}  draining {now - started:.0f} s  due {delivery_check.due(self.installation.database)}",
                    file=sys.stderr,
                )
            time.sleep(0.1)
        return None

    def _spooled(self) -> int:
        """Return the number of notifications in the spool, which both receivers share. With SQLite there is no spool."""
        if not self._proxies:
            return 0
        status = self.installation.http.get(f"http://127.0.0.1:{self._ports[0]}/statusz").json()
        return int(status["spool"]["count"])

    def _describe_due(self) -> str:
        return str(self.installation.database.rows("SELECT * FROM vod_sync_request WHERE state = 'due' AND waits = 0")[:3])

    def _print_progress(self, outcome: Outcome, elapsed: float, records: Sequence[DeliveryRecord]) -> None:
        sent = sum(record.sent for record in records)
        accepted = sum(len(record.accepted) for record in records)
        kills = sum(role.injected["kill"] for role in self.roles.values())
        down = [name for name, role in self.roles.items() if not role.running]
        print(
            f"chaos {outcome.pair}  {elapsed:.0f} of {outcome.minutes * 60:.0f} s  sent {sent}  answered 200: {accepted}  "
            f"kills {kills}  faults {outcome.faults.total()}  due {delivery_check.due(self.installation.database)}"
            + (f"  down {', '.join(down)}" if down else ""),
            file=sys.stderr,
        )


@contextmanager
def _target(pair: str, folder: Path) -> Iterator[Target]:
    with installed(PAIRS[pair], folder, _REDIS_DATABASE, VODSYNC_LEASE="5") as installation:
        installation.start_emulator("--media", str(_LIBRARY), notify=False)
        proxies = {}
        if "VODSYNC_BROKER_URL" in installation.settings:
            for target in ("database", "broker"):
                parts = urlsplit(installation.settings[f"VODSYNC_{target.upper()}_URL"])
                proxies[target] = Proxy((parts.hostname or "", parts.port or 0), port=_free_port())
        try:
            yield Target(installation, proxies)
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
