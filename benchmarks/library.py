"""How fast is a backfill, does it keep the rate limit, and does it delay notifications?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import quantiles

import httpx
import sqlalchemy as sa

from benchmarks import notices
from benchmarks.installation import POSTGRESQL, Installation, ServerMissingError, installed, wait_until
from benchmarks.report import Measure, Wanted, at_least, at_most
from worker.store.heartbeats import Heartbeats
from worker.store.jobs.job_rows import FINAL_STATES, Job, Jobs
from worker.store.tables import media, sync_request
from worker.sync.jobs import backfill, reconcile, renormalise

_PART = "library"

_BACKFILL_RATE = at_least(500)  # assets per second
_SHARE_OF_LIMIT = at_least(0.95)
_BUSIEST_SECOND = at_most(20)  # calls
_RENORMALISE_RATE = at_least(2_000)  # assets per second
_LATENCY = at_most(1.5)  # seconds

_JOB_TIMEOUT = 7_200.0  # seconds


def measure(*, quick: bool) -> Iterator[Measure]:
    try:
        yield from _loaded(5_000 if quick else 20_000)
        yield from _within_rate_limit(4_000 if quick else 40_000)
    except ServerMissingError as error:
        yield Measure(_PART, "backfill with two workers, no rate limit: assets per second", wanted=_BACKFILL_RATE, note=str(error))


def _loaded(count: int) -> Iterator[Measure]:
    """Backfill a new library, reconcile it without differences, then renormalise it."""
    with unlimited(count) as (installation, api):
        seconds, job = run(installation, backfill.KIND)
        note = f"{job.counters['fetched']} assets in {seconds:.0f} s"
        yield Measure(
            _PART,
            "backfill with two workers, no rate limit: assets per second",
            [job.counters["fetched"] / seconds],
            "/s",
            _BACKFILL_RATE,
            note=note,
        )
        yield from reconcile_unchanged(installation, api, count, at_most(count // 100 + count // 5_000 + 4))
        seconds, job = run(installation, renormalise.KIND)
        note = f"{job.counters['read']} assets in {seconds:.1f} s, {job.counters['changed']} changed"
        yield Measure(_PART, "renormalise: assets per second", [job.counters["read"] / seconds], "/s", _RENORMALISE_RATE, note=note)


def reconcile_unchanged(installation: Installation, api: httpx.Client, count: int, required: Wanted) -> Iterator[Measure]:
    api.delete("/emulator/calls").raise_for_status()
    newest, followed = _newest(installation), _followed(installation)
    seconds, job = run(installation, reconcile.KIND, full=True)
    calls = api.get("/emulator/calls").json()["SearchMedia"]["calls"]
    name, note = f"full reconciliation of {count:,} unchanged assets", f"{job.counters['listed']} listed in {seconds:.0f} s"
    yield Measure(_PART, f"{name}: SearchMedia calls", [calls], "", required, note=note)
    yield Measure(_PART, f"{name}: rows of vod_media written", [len(_written(installation, newest) - followed)], "", at_most(0))


def _within_rate_limit(count: int) -> Iterator[Measure]:
    """Backfill at VOD's documented rate limit, while assets are uploaded and notified."""
    with installed(POSTGRESQL) as installation:
        api = installation.start_emulator("--media", str(count), "--qps", "20", "--search-qps", "50")
        installation.start("serve")
        _start_workers(installation)
        installation.wait_until_ready()
        latencies: list[float] = []
        finished = threading.Event()
        notifier = threading.Thread(target=_notify_uploads, args=(installation, api, latencies, finished))
        notifier.start()
        seconds, job = run(installation, backfill.KIND)
        finished.set()
        notifier.join()
        calls = api.get("/emulator/calls").json()["BatchGetMediaInfos"]
        rate = job.counters["fetched"] / seconds
        note = f"{rate:.0f} assets/s in {seconds:.0f} s, {calls['throttled']} throttled"
        yield Measure(
            _PART, "backfill at 20 calls/s: share of the possible 400 assets/s", [rate / 400], "×", _SHARE_OF_LIMIT, note=note
        )
        yield Measure(_PART, "backfill at 20 calls/s: calls in the busiest second", [calls["busiest_second"]], "", _BUSIEST_SECOND)
        note = f"{len(latencies)} notifications during the backfill"
        p95 = [quantiles(latencies, n=20)[-1]] if len(latencies) > 1 else []
        yield Measure(
            _PART, "backfill at 20 calls/s: from response 200 to stored row, 95th percentile", p95, "s", _LATENCY, note=note
        )


@contextmanager
def unlimited(count: int) -> Iterator[tuple[Installation, httpx.Client]]:
    """An installation with two workers and a library of `count` assets, without rate limits."""
    with installed(POSTGRESQL) as installation:
        installation.environment |= {"VODSYNC_API_QPS": "10000", "VODSYNC_SEARCH_QPS": "10000"}
        api = installation.start_emulator("--media", str(count), "--qps", "10000", "--search-qps", "10000")
        _start_workers(installation)
        yield installation, api


def _start_workers(installation: Installation) -> None:
    """Start two workers and wait for their heartbeats."""
    for _ in range(2):
        installation.start("work")
    wait_until(lambda: _alive(installation) == 2, "two workers had a heartbeat")


def _alive(installation: Installation) -> int:
    with installation.store.reading() as connection:
        return len(Heartbeats(connection).all())


def run(installation: Installation, kind: str, **parameters: object) -> tuple[float, Job]:
    """Run a job to its end. Returns its seconds and the job."""
    job_id = start(installation, kind, **parameters).id
    started_at = time.monotonic()
    wait_until(lambda: find(installation, job_id).state in FINAL_STATES, f"{kind} was over", timeout=_JOB_TIMEOUT, pause=0.1)
    job = find(installation, job_id)
    if job.last_error:
        raise RuntimeError(job.last_error)
    return time.monotonic() - started_at, job


def start(installation: Installation, kind: str, **parameters: object) -> Job:
    job, _ = installation.store.transact(
        lambda connection: Jobs(connection).start("default", kind, parameters, now=installation.store.now())
    )
    return job


def find(installation: Installation, job_id: int) -> Job:
    with installation.store.reading() as connection:
        job = Jobs(connection).find(job_id)
    if job is None:
        raise LookupError(job_id)
    return job


def _newest(installation: Installation) -> object:
    with installation.store.reading() as connection:
        return connection.execute(sa.select(sa.func.max(media.c.observed_at))).scalar()


def _written(installation: Installation, since: object) -> set[str]:
    with installation.store.reading() as connection:
        return set(connection.execute(sa.select(media.c.media_id).where(media.c.observed_at > since)).scalars())


def _followed(installation: Installation) -> set[str]:
    """Return the ids of assets that VOD still processes. They are fetched at intervals, independently of the job."""
    with installation.store.reading() as connection:
        return set(connection.execute(sa.select(sync_request.c.media_id).where(sync_request.c.waits > 0)).scalars())


def _notify_uploads(installation: Installation, api: httpx.Client, latencies: list[float], finished: threading.Event) -> None:
    """Upload and notify one asset after the other. Appends the seconds from response 200 to row to `latencies`."""
    with httpx.Client(timeout=10) as sender:
        while not finished.wait(0.5):
            uploads = {"count": 1, "life_seconds": 0.01, "notify": False}
            (media_id,) = api.post("/emulator/uploads", json=uploads).raise_for_status().json()["media_ids"]
            time.sleep(0.1)
            content = notices.body(media_id, 1)
            sender.post(installation.callback_url, content=content, headers=installation.signed()).raise_for_status()
            answered_at = time.monotonic()
            wait_until(partial(_is_stored, installation, media_id), "a notified asset was stored", timeout=60)
            latencies.append(time.monotonic() - answered_at)


def _is_stored(installation: Installation, media_id: str) -> bool:
    with installation.store.reading() as connection:
        return connection.execute(sa.select(media.c.media_id).where(media.c.media_id == media_id)).first() is not None
