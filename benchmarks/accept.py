"""How many notifications per second does the receiver accept, relative to a handler that does nothing?

Sender, server and database share this machine's cores. The thresholds were set on two cores: there the empty handler and its
sender have one core each, but the receiver shares both with its database and its writer thread. Ratios differ between machines
and can be compared only within one run. Each pass of a candidate runs between two passes of the empty handler.
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

#: Throughput relative to the empty handler.
_REQUIRED = {SQLITE: at_least(0.40), POSTGRESQL: at_least(0.35)}
_P99_MS = at_most(60)
_RELATIVE_TO_PUBLISHING = at_least(5)


@dataclass(slots=True)
class _Candidate:
    """A server and the results of its passes. `ratios` are relative to the passes of the empty handler before and after each."""

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
    receivers: dict[Pair, _Candidate] = {}
    missing: dict[Pair, str] = {}
    publishing: _Candidate | None = None
    missing_broker = ""
    with ExitStack() as stack:
        empty = _Candidate(stack.enter_context(_baseline("empty", SQLITE)))
        for pair in _REQUIRED:
            try:
                installation = stack.enter_context(installed(pair))
            except ServerMissingError as error:
                missing[pair] = str(error)
            else:
                installation.start("serve")
                installation.wait_until_ready()
                receivers[pair] = _Candidate(installation)
        try:
            publishing = _Candidate(stack.enter_context(_publishing()))
        except ServerMissingError as error:
            missing_broker = str(error)
        candidates = [*receivers.values(), *([publishing] if publishing else [])]
        for candidate in (empty, *candidates):
            candidate.send(seconds / 2)  # warm-up
        _interleave(empty, candidates, passes, seconds)
    yield Measure(
        _PART,
        "empty Starlette handler: requests per second",
        empty.per_second,
        "/s",
        note=f"the sender used {_cpu(empty):.0%} of a core",
    )
    if publishing:
        yield from _describe("endpoint that publishes a Celery task per request", publishing)
    for pair in _REQUIRED:
        yield from _compare(pair, receivers, missing)
        name = f"{pair}: throughput relative to a Celery task per request"
        if publishing and pair in receivers:
            ratios = [
                receiver_rate / endpoint_rate
                for receiver_rate, endpoint_rate in zip(receivers[pair].per_second, publishing.per_second, strict=True)
            ]
            yield Measure(_PART, name, ratios, "×", _RELATIVE_TO_PUBLISHING)
        else:
            yield Measure(_PART, name, wanted=_RELATIVE_TO_PUBLISHING, note=missing.get(pair) or missing_broker)


def _compare(pair: Pair, receivers: Mapping[Pair, _Candidate], missing: Mapping[Pair, str]) -> Iterator[Measure]:
    if pair in missing:
        yield Measure(_PART, f"{pair}: throughput relative to the empty handler", wanted=_REQUIRED[pair], note=missing[pair])
        yield Measure(_PART, f"{pair}: response time, 99th percentile", wanted=_P99_MS, note=missing[pair])
        return
    yield Measure(_PART, f"{pair}: throughput relative to the empty handler", receivers[pair].ratios, "×", _REQUIRED[pair])
    yield from _describe(str(pair), receivers[pair], _P99_MS)


def _describe(name: str, candidate: _Candidate, p99_required: Wanted | None = None) -> Iterator[Measure]:
    yield Measure(_PART, f"{name}: requests per second", candidate.per_second, "/s")
    yield Measure(_PART, f"{name}: response time, median", candidate.percentiles(0.50), "ms")
    yield Measure(_PART, f"{name}: response time, 99th percentile", candidate.percentiles(0.99), "ms", p99_required)


def _interleave(empty: _Candidate, candidates: list[_Candidate], passes: int, seconds: float) -> None:
    before = empty.send(seconds / 2)
    empty.results.append(before)
    for _ in range(passes):
        for candidate in candidates:
            result = candidate.send(seconds)
            after = empty.send(seconds / 2)
            empty.results.append(after)
            candidate.results.append(result)
            candidate.ratios.append(2 * result.per_second / (before.per_second + after.per_second))
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
