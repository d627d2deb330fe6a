"""How fast does a library come in, does the account's rate hold meanwhile, and does a notification wait for it?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

_RATE, _SHARE, _BUSIEST = at_least(500), at_least(0.95), at_most(20)
_DERIVED = at_least(2_000)
_LIVE = at_most(1.5)

#: Seconds until a job that is not over counts as stuck.
_PATIENCE = 7_200.0


def measure(*, quick: bool) -> Iterator[Measure]:
    try:
        yield from _loaded(5_000 if quick else 20_000)
        yield from _within_quota(4_000 if quick else 40_000)
    except ServerMissingError as error:
        yield Measure(_PART, "backfill on PostgreSQL", wanted=_RATE, note=str(error))


def _loaded(count: int) -> Iterator[Measure]:
    """Everything is new; then nothing to do; then without the API."""
    with unlimited(count) as (installation, api):
        seconds, job = run(installation, backfill.KIND)
        note = f"{job.counters['fetched']} media in {seconds:.0f} s"
        yield Measure(_PART, "backfill, two workers, media/s", [job.counters["fetched"] / seconds], "/s", _RATE, note=note)
        yield from unchanged(installation, api, count, at_most(count // 100 + count // 5_000 + 4))
        seconds, job = run(installation, renormalise.KIND)
        note = f"{job.counters['read']} media in {seconds:.1f} s, {job.counters['changed']} changed"
        yield Measure(_PART, "renormalise, media/s", [job.counters["read"] / seconds], "/s", _DERIVED, note=note)


def unchanged(installation: Installation, api: httpx.Client, count: int, wanted: Wanted) -> Iterator[Measure]:
    api.delete("/emulator/calls").raise_for_status()
    newest, followed = _newest(installation), _followed(installation)
    seconds, job = run(installation, reconcile.KIND, full=True)
    calls = api.get("/emulator/calls").json()["SearchMedia"]["calls"]
    name, note = f"full reconciliation of {count:,} unchanged media", f"{job.counters['listed']} listed in {seconds:.0f} s"
    yield Measure(_PART, f"{name}: searches", [calls], "", wanted, note=note)
    yield Measure(_PART, f"{name}: media rows written", [len(_written(installation, newest) - followed)], "", at_most(0))


def _within_quota(count: int) -> Iterator[Measure]:
    """The documented rate, kept and used; meanwhile media are uploaded and told of."""
    with installed(POSTGRESQL) as installation:
        api = installation.start_emulator("--media", str(count), "--qps", "20", "--search-qps", "50")
        installation.start("serve")
        _start_workers(installation)
        installation.wait_until_ready()
        latencies: list[float] = []
        over = threading.Event()
        teller = threading.Thread(target=_tell, args=(installation, api, latencies, over))
        teller.start()
        seconds, job = run(installation, backfill.KIND)
        over.set()
        teller.join()
        calls = api.get("/emulator/calls").json()["BatchGetMediaInfos"]
        rate = job.counters["fetched"] / seconds
        note = f"{rate:.0f} media/s in {seconds:.0f} s, {calls['throttled']} throttled"
        yield Measure(_PART, "backfill at 20 calls/s, beside 400 media/s", [rate / 400], "x", _SHARE, note=note)
        yield Measure(_PART, "busiest second, calls", [calls["busiest_second"]], "", _BUSIEST)
        note = f"{len(latencies)} told meanwhile"
        p95 = [quantiles(latencies, n=20)[-1]] if len(latencies) > 1 else []
        yield Measure(_PART, "200 to row during a backfill, p95", p95, "s", _LIVE, note=note)


@contextmanager
def unlimited(count: int) -> Iterator[tuple[Installation, httpx.Client]]:
    """Two workers, and nothing between them and so many media but their own speed."""
    with installed(POSTGRESQL) as installation:
        installation.environment |= {"VODSYNC_API_QPS": "10000", "VODSYNC_SEARCH_QPS": "10000"}
        api = installation.start_emulator("--media", str(count), "--qps", "10000", "--search-qps", "10000")
        _start_workers(installation)
        yield installation, api


def _start_workers(installation: Installation) -> None:
    """Two of them, at work."""
    for _ in range(2):
        installation.start("work")
    wait_until(lambda: _alive(installation) == 2, "two workers were heard of")


def _alive(installation: Installation) -> int:
    with installation.store.reading() as connection:
        return len(Heartbeats(connection).all())


def run(installation: Installation, kind: str, **parameters: object) -> tuple[float, Job]:
    """Seconds that a job took, and the job."""
    started = start(installation, kind, **parameters)
    began = time.monotonic()
    wait_until(lambda: find(installation, started.id).state in FINAL_STATES, f"{kind} was over", patience=_PATIENCE, pause=0.1)
    job = find(installation, started.id)
    if job.last_error:
        raise RuntimeError(job.last_error)
    return time.monotonic() - began, job


def start(installation: Installation, kind: str, **parameters: object) -> Job:
    from worker.runtime import now

    job, _ = installation.store.transact(lambda connection: Jobs(connection).start("default", kind, parameters, now=now()))
    return job


def find(installation: Installation, job_id: int) -> Job:
    with installation.store.reading() as connection:
        found = Jobs(connection).find(job_id)
    if found is None:
        raise LookupError(job_id)
    return found


def _newest(installation: Installation) -> object:
    with installation.store.reading() as connection:
        return connection.execute(sa.select(sa.func.max(media.c.observed_at))).scalar()


def _written(installation: Installation, since: object) -> set[str]:
    with installation.store.reading() as connection:
        return set(connection.execute(sa.select(media.c.media_id).where(media.c.observed_at > since)).scalars())


def _followed(installation: Installation) -> set[str]:
    """Media that VOD is still at work on: they are asked for by the clock, whatever else happens."""
    with installation.store.reading() as connection:
        return set(connection.execute(sa.select(sync_request.c.media_id).where(sync_request.c.waits > 0)).scalars())


def _tell(installation: Installation, api: httpx.Client, latencies: list[float], over: threading.Event) -> None:
    """One upload after the other, told of when it is there; seconds from the 200 to the row."""
    with httpx.Client(timeout=10) as sender:
        while not over.wait(0.5):
            uploads = {"count": 1, "life_seconds": 0.01, "notify": False}
            (media_id,) = api.post("/emulator/uploads", json=uploads).raise_for_status().json()["media_ids"]
            time.sleep(0.1)
            content = notices.body(media_id, 1)
            sender.post(installation.callback_url, content=content, headers=installation.signed()).raise_for_status()
            began = time.monotonic()
            wait_until(lambda wanted=media_id: _stored(installation, wanted), "a notification became a row", patience=60)  # type: ignore[misc]
            latencies.append(time.monotonic() - began)


def _stored(installation: Installation, media_id: str) -> bool:
    with installation.store.reading() as connection:
        return connection.execute(sa.select(media.c.media_id).where(media.c.media_id == media_id)).first() is not None
