"""While the database says nothing for a minute: how long does a sender wait, and how soon is everything where it belongs?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx

from benchmarks import load, notices
from benchmarks.installation import MARIADB, POSTGRESQL, Installation, Pair, ServerMissingError, installed
from benchmarks.report import Measure, at_most
from tests.system.proxy import Proxy

_PART = "outage"

_NOTIFICATIONS = 5_000

_P99_MS, _DRAIN_SECONDS = at_most(1_500), at_most(20)

#: Seconds after which what is still spooled counts as lost.
_PATIENCE = 120.0


def measure(*, quick: bool) -> Iterator[Measure]:
    for pair in (POSTGRESQL, MARIADB):
        try:
            yield from _measure(pair, outage=10.0 if quick else 60.0)
        except ServerMissingError as error:
            yield Measure(_PART, f"{pair}: p99 while frozen", wanted=_P99_MS, note=str(error))
            yield Measure(_PART, f"{pair}: drained after", wanted=_DRAIN_SECONDS, note=str(error))


def _measure(pair: Pair, *, outage: float) -> Iterator[Measure]:
    with ExitStack() as stack:
        installation = stack.enter_context(installed(pair))
        url = installation.environment["VODSYNC_DATABASE_URL"]
        server = urlsplit(url)
        proxy = Proxy((server.hostname or "127.0.0.1", server.port or {"postgresql": 5432}.get(pair.database, 3306)))
        stack.callback(proxy.close)
        address = server.netloc.rpartition("@")[0]
        through = server._replace(netloc=f"{address}{'@' if address else ''}127.0.0.1:{proxy.port}").geturl()
        installation.environment["VODSYNC_DATABASE_URL"] = through
        installation.start("serve")
        installation.wait_until_ready()
        bodies = [notices.body(f"outage{number}", 1) for number in range(_NOTIFICATIONS)]
        job = load.Job(port=installation.port, headers=installation.signed(), bodies=bodies)
        frozen_at = time.monotonic()
        proxy.freeze()
        result = load.run(job)
        time.sleep(max(0.0, outage - (time.monotonic() - frozen_at)))
        spooled = _spooled(installation)
        proxy.restore()
        began = time.monotonic()
        while _spooled(installation) and time.monotonic() - began < _PATIENCE:
            time.sleep(0.05)
        note = f"{result.answered} answered 200, {result.refused} not, in {result.seconds:.1f} s"
        yield Measure(_PART, f"{pair}: p99 while frozen", [result.percentile(0.99)], "ms", _P99_MS, note=note)
        note = f"{spooled} spooled after {outage:g} s"
        yield Measure(_PART, f"{pair}: drained after", [time.monotonic() - began], "s", _DRAIN_SECONDS, note=note)


def _spooled(installation: Installation) -> int:
    with httpx.Client(timeout=10) as client:
        return int(client.get(f"http://127.0.0.1:{installation.port}/statusz").json()["spool"]["count"])
