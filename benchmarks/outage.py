"""While the database is frozen for a minute: how long are response times, and how soon is the spool empty afterwards?"""

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

_P99_MS = at_most(1_500)
_DRAIN_SECONDS = at_most(20)

_TIMEOUT = 120.0  # seconds for emptying the spool


def measure(*, quick: bool) -> Iterator[Measure]:
    for pair in (POSTGRESQL, MARIADB):
        try:
            yield from _measure(pair, outage=10.0 if quick else 60.0)
        except ServerMissingError as error:
            yield Measure(_PART, f"{pair}, database frozen: response time, 99th percentile", wanted=_P99_MS, note=str(error))
            yield Measure(_PART, f"{pair}, database back: time to empty the spool", wanted=_DRAIN_SECONDS, note=str(error))


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
        restored_at = time.monotonic()
        while _spooled(installation) and time.monotonic() - restored_at < _TIMEOUT:
            time.sleep(0.05)
        note = f"{result.answered} answered 200, {result.refused} not, in {result.seconds:.1f} s"
        yield Measure(
            _PART, f"{pair}, database frozen: response time, 99th percentile", [result.percentile(0.99)], "ms", _P99_MS, note=note
        )
        note = f"{spooled} spooled after {outage:g} s"
        yield Measure(
            _PART,
            f"{pair}, database back: time to empty the spool",
            [time.monotonic() - restored_at],
            "s",
            _DRAIN_SECONDS,
            note=note,
        )


def _spooled(installation: Installation) -> int:
    with httpx.Client(timeout=10) as client:
        return int(client.get(f"http://127.0.0.1:{installation.port}/statusz").json()["spool"]["count"])
