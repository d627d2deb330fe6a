"""Start a long run for a verb, and show its progress until it ends."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import typer

from worker import runtime
from worker.cli.bar import Bar, counting_progress
from worker.cli.context import first_problem, open_installation
from worker.cli.output import Exit, counters_text, print_error, print_info, print_json, print_json_line, printable
from worker.core.errors import StoreUnavailableError
from worker.store.jobs.job_rows import FINAL_STATES, Job, Jobs, JobState

POLL_INTERVAL = 0.5  # seconds between two reads of the job
LINE_INTERVAL = 10.0  # seconds between two lines if no bar is drawn
HINT_AFTER = 15.0  # seconds without a change of the job until the likely reason is printed
DATABASE_RETRY_INTERVAL = 5.0  # seconds

INTERRUPTED = 130  # exit code after Ctrl-C (contract 4.1)


def start(source: str, kind: str, parameters: Mapping[str, object], *, wait: bool, as_json: bool) -> None:
    """Start a job, or find the running job of the same kind and source. With `wait` show its progress until it ends.

    Exits with code 1 if the running job has other parameters; with `wait` also if the job failed, was paused or cancelled, or led
    to dead letters.
    """
    installation = open_installation(source)
    job, is_new = installation.store.transact(
        lambda connection: Jobs(connection).start(source, kind, dict(parameters), now=installation.store.now())
    )
    if not is_new:
        exists = f"{kind} {job.id} of source {printable(source)} already exists ({job.state})"
        if job.parameters != dict(parameters):
            raise typer.Exit(
                print_error(
                    f"{exists} with the parameters {json.dumps(job.parameters)}; nothing was started. "
                    f"Wait for it (vodsync jobs show {job.id}), or end it with: vodsync jobs cancel {job.id}",
                    Exit.FAILED,
                )
            )
        print_info(f"{exists}; no second one was started")
    if wait:
        _wait(installation, job, as_json=as_json)
    elif as_json:
        print_json(asdict(job))
    elif is_new:
        print_info(f"{kind} {job.id} was handed to the workers; follow it with: vodsync jobs show {job.id}")


def preview(steps: Iterable[Mapping[str, int]], progress: str, *, as_json: bool) -> None:
    """Print the counters that a job would have, without starting one. The counter named `progress` moves the bar."""
    total: Counter[str] = Counter()
    with Bar(progress) as bar:
        for step in steps:
            total.update(step)
            bar.reach(total[progress])
    if as_json:
        print_json(total)
    else:
        print_info(f"{counters_text(total.items())} (dry run)")


def _wait(installation: runtime.Runtime, job: Job, *, as_json: bool) -> None:
    try:
        job = _watch(installation, job, as_json=as_json)
    except KeyboardInterrupt:
        print_info(f"{job.kind} {job.id} continues in the workers; end it with: vodsync jobs cancel {job.id}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_line(job)
    if job.state == JobState.FAILED:
        raise typer.Exit(print_error(f"{job.kind} {job.id} failed: {job.last_error}", Exit.FAILED))
    print_info(f"{job.kind} {job.id} {job.state}: {counters_text(job.counters.items())}")
    for counter, media_ids in (job.checkpoint or {}).get("examples", {}).items():
        print_info(f"  {counter}, such as: {', '.join(map(printable, media_ids))}")
    if job.counters.get("dead"):
        message = f"{job.counters['dead']} media became dead letters; list them with: vodsync failures list"
        raise typer.Exit(print_error(message, Exit.FAILED))
    if job.state != JobState.DONE:
        raise typer.Exit(Exit.FAILED)


def _watch(installation: runtime.Runtime, job: Job, *, as_json: bool) -> Job:
    """Return the job once it has ended or was paused. While the database is unreachable, retry."""
    display = _Display(job, as_json=as_json)
    changed_at = time.monotonic()
    try:
        while job.state not in (*FINAL_STATES, JobState.PAUSED):
            time.sleep(POLL_INTERVAL)
            try:
                with installation.store.reading() as connection:
                    latest = Jobs(connection).find(job.id) or job
            except StoreUnavailableError as error:
                print_error(error, Exit.UNREACHABLE)
                time.sleep(DATABASE_RETRY_INTERVAL)
                continue
            if latest != job:
                job, changed_at = latest, time.monotonic()
            elif time.monotonic() - changed_at > HINT_AFTER:
                changed_at = time.monotonic()
                _print_hint(installation, job)
            display.update(job)
    finally:
        display.close()
    return job


class _Display:
    """Progress of one job: a bar at a terminal, else a line every ten seconds; with `as_json` lines of JSON on stdout."""

    def __init__(self, job: Job, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started_at = self._line_at = time.monotonic()
        self._done_at_start = _done_and_total(job)[0]
        self._progress = counting_progress(rate=True) if sys.stderr.isatty() and not as_json else None
        if self._progress:
            self._task = self._progress.add_task(job.kind, total=None, rate="")
            self._progress.start()
        if as_json:
            _print_line(job)

    def update(self, job: Job) -> None:
        done, total = _done_and_total(job)
        now = time.monotonic()
        rate = max(0, done - self._done_at_start) / max(now - self._started_at, 0.001)
        if self._progress:
            self._progress.update(self._task, total=total, completed=done, rate=f"{rate:.0f}/s")
        elif now - self._line_at > LINE_INTERVAL:
            self._line_at = now
            if self._as_json:
                _print_line(job, rate)
            else:
                error = f"; {job.last_error}" if job.last_error else ""
                print_info(f"{job.kind} {job.id}: {counters_text(job.counters.items())}, {rate:.0f}/s{error}")

    def close(self) -> None:
        if self._progress:
            self._progress.stop()


def _done_and_total(job: Job) -> tuple[int, int | None]:
    """Return how many media are done, and of how many (None if that is not known yet).

    An asset is done when it is fetched, in jobs and phases that wait for fetches. Otherwise it is done when it is listed or read.
    """
    counters = job.counters
    if "known" in counters and not job.parameters.get("dry_run"):
        return counters["known"] + counters.get("fetched", 0) + counters.get("dead", 0), counters.get("total")
    if (job.checkpoint or {}).get("phase") in ("settle", "fetch"):
        return counters.get("fetched", 0), counters.get("missed", 0) + counters.get("changed", 0)
    return next((counters[name] for name in ("listed", "read", "matched") if name in counters), 0), counters.get("total")


def _print_line(job: Job, rate: float | None = None) -> None:
    """Print one line of JSON: the job, media per second, and the seconds that remain."""
    done, total = _done_and_total(job)
    remaining = max(0, total - done) / rate if total and rate else None
    print_json_line(asdict(job) | {"media_per_second": rate and round(rate, 1), "seconds_left": remaining and round(remaining)})


def _print_hint(installation: runtime.Runtime, job: Job) -> None:
    if job.last_error:
        print_info(f"vodsync: {job.last_error}; it is tried again")
    elif problem := first_problem(installation):
        print_info(f"vodsync: {problem}")
