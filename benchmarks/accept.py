"""How fast are notifications accepted, beside a handler that does nothing?

Sender, server and database share this machine's cores (two, where the thresholds were set): the empty handler and its sender have
one each, a receiver must share both with its database and its own writer thread. So ratios differ from machine to machine and mean
something only inside one run; each pass of a candidate stands between two passes of the empty handler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from kombu import Connection

from benchmarks import load
from benchmarks.baselines import QUEUE
from benchmarks.installation import POSTGRESQL, SQLITE, Installation, Pair, ServerMissingError, installed, server_url, wait_for_port
from benchmarks.notices import TEMPLATE
from benchmarks.report import Measure, Wanted, at_least, at_most

_PART = "accept"

#: The least ratio to the empty handler.
_WANTED = {SQLITE: at_least(0.40), POSTGRESQL: at_least(0.35)}
_P99_MS = at_most(60)
_TIMES_PUBLISHING = at_least(5)


@dataclass(slots=True)
class _Candidate:
    """Somebody who listens, and how the passes went; `ratios` are to the empty passes before and after each."""

    installation: Installation
    results: list[load.Result] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def send(self, seconds: float) -> load.Result:
        job = load.Job(port=self.installation.port, headers=self.installation.signed(), template=TEMPLATE, seconds=seconds)
        result = load.run(job)
        if result.refused:
            raise RuntimeError(f"{result.refused} of {result.refused + result.answered} notifications were refused")
        return result

    @property
    def per_second(self) -> list[float]:
        return [result.per_second for result in self.results]

    def percentiles(self, share: float) -> list[float]:
        return [result.percentile(share) for result in self.results]


def measure(*, quick: bool) -> Iterator[Measure]:
    passes, seconds = (3, 1.0) if quick else (5, 2.0)
    ours: dict[Pair, _Candidate] = {}
    missing: dict[Pair, str] = {}
    publishing: _Candidate | None = None
    missing_broker = ""
    with ExitStack() as stack:
        empty = _Candidate(stack.enter_context(_baseline("empty", SQLITE)))
        for pair in _WANTED:
            try:
                installation = stack.enter_context(installed(pair))
            except ServerMissingError as error:
                missing[pair] = str(error)
            else:
                installation.start("serve")
                installation.wait_until_ready()
                ours[pair] = _Candidate(installation)
        try:
            publishing = _Candidate(stack.enter_context(_publishing()))
        except ServerMissingError as error:
            missing_broker = str(error)
        candidates = [*ours.values(), *([publishing] if publishing else [])]
        for each in (empty, *candidates):
            each.send(seconds / 2)
        _interleave(empty, candidates, passes, seconds)
    yield Measure(_PART, "empty handler", empty.per_second, "/s", note=f"the sender used {_cpu(empty):.0%} of a core")
    if publishing:
        yield from _describe("a Celery task per request, RabbitMQ confirms", publishing)
    for pair in _WANTED:
        yield from _judge(pair, ours, missing)
        name = f"{pair}: beside a task per request"
        if publishing and pair in ours:
            times = [mine / theirs for mine, theirs in zip(ours[pair].per_second, publishing.per_second, strict=True)]
            yield Measure(_PART, name, times, "×", _TIMES_PUBLISHING)
        else:
            yield Measure(_PART, name, wanted=_TIMES_PUBLISHING, note=missing.get(pair) or missing_broker)


def _judge(pair: Pair, ours: Mapping[Pair, _Candidate], missing: Mapping[Pair, str]) -> Iterator[Measure]:
    if pair in missing:
        yield Measure(_PART, f"{pair}: beside the empty handler", wanted=_WANTED[pair], note=missing[pair])
        yield Measure(_PART, f"{pair}: p99", wanted=_P99_MS, note=missing[pair])
        return
    yield Measure(_PART, f"{pair}: beside the empty handler", ours[pair].ratios, "×", _WANTED[pair])
    yield from _describe(str(pair), ours[pair], _P99_MS)


def _describe(name: str, candidate: _Candidate, p99_wanted: Wanted | None = None) -> Iterator[Measure]:
    yield Measure(_PART, f"{name}", candidate.per_second, "/s")
    yield Measure(_PART, f"{name}: p50", candidate.percentiles(0.50), "ms")
    yield Measure(_PART, f"{name}: p99", candidate.percentiles(0.99), "ms", p99_wanted)


def _interleave(empty: _Candidate, candidates: list[_Candidate], passes: int, seconds: float) -> None:
    before = empty.send(seconds / 2)
    empty.results.append(before)
    for _ in range(passes):
        for each in candidates:
            result = each.send(seconds)
            after = empty.send(seconds / 2)
            empty.results.append(after)
            each.results.append(result)
            each.ratios.append(2 * result.per_second / (before.per_second + after.per_second))
            before = after


def _cpu(candidate: _Candidate) -> float:
    return max(result.cpu for result in candidate.results)


@contextmanager
def _baseline(name: str, pair: Pair) -> Iterator[Installation]:
    with installed(pair) as installation:
        installation.start_module("benchmarks.baselines", name, str(installation.port))
        wait_for_port(installation.port)
        yield installation


@contextmanager
def _publishing() -> Iterator[Installation]:
    with Connection(server_url("rabbitmq")) as connection, _baseline("publish", Pair("sqlite", "rabbitmq")) as installation:
        try:
            yield installation
        finally:
            connection.default_channel.queue_delete(QUEUE)
