"""Verbs about long runs: what runs, how far it is, and how it is stopped."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worker import runtime
from worker.cli.context import first_problem, ready
from worker.cli.output import Bar, Exit, cell, print_error, print_info, print_json, stderr, stdout, table
from worker.core.errors import StoreUnavailableError
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import FINAL_STATES, Job, Jobs, JobState

app = typer.Typer(help="Look at long runs (backfill, reconcile ...), pause, resume or cancel them.", no_args_is_help=True)

_Id = Annotated[int, typer.Argument(metavar="ID", help="The number of the job, as `jobs list` shows it.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Seconds between two looks at a job; between two lines about it where no bar can be drawn; until somebody wonders.
_LOOK, _LINE, _WONDER = 0.5, 10.0, 15.0


@app.command(name="list")
def list_(limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20, as_json: _AsJson = False) -> None:
    """List jobs, the newest first."""
    here = ready(None)
    with here.store.reading() as connection:
        jobs = Jobs(connection).latest(limit=limit)
    if as_json:
        print_json([asdict(job) for job in jobs])
        return
    shown = table(None, "id", "kind", "source", "state", "started", "counted", "error")
    for job in jobs:
        started = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
        shown.add_row(str(job.id), _title(job), job.source, job.state, started, counted(job), cell(job.last_error))
    stdout.print(shown)


@app.command()
def show(job_id: _Id, as_json: _AsJson = False) -> None:
    """Show one job whole."""
    job = _find(ready(None), job_id)
    if as_json:
        print_json(asdict(job))
        return
    shown = table(None, "field", "value")
    for name, value in asdict(job).items():
        shown.add_row(name, cell(json.dumps(value) if isinstance(value, dict) else value))
    stdout.print(shown)


@app.command()
def pause(job_id: _Id) -> None:
    """Let a job rest until it is resumed. What it has requested so far is fetched all the same."""
    _change(job_id, Jobs.pause, "paused", "does not run")
    _tell_rest(job_id)


@app.command()
def resume(job_id: _Id) -> None:
    """Go on with a paused job where it was."""
    _change(job_id, Jobs.resume, "resumed", "is not paused")


@app.command()
def cancel(job_id: _Id) -> None:
    """End a job. What it has requested so far is fetched all the same."""
    _change(job_id, Jobs.cancel, "cancelled", "is over already")
    _tell_rest(job_id)


def _title(job: Job) -> str:
    return f"{job.kind} (dry run)" if job.parameters.get("dry_run") else job.kind


def _change(job_id: int, change: Callable[..., bool], done: str, otherwise: str) -> None:
    here = ready(None)
    _find(here, job_id)
    if not here.store.transact(lambda connection: change(Jobs(connection), job_id, now=runtime.now())):
        raise typer.Exit(print_error(f"job {job_id} {otherwise}", Exit.FAILED))
    print_info(f"job {job_id} {done}")


def _tell_rest(job_id: int) -> None:
    here = ready(None)
    job = _find(here, job_id)
    with here.store.reading() as connection:
        left = Inventory(connection, job.source).count_unfetched(job.kind)
    if left:
        print_info(f"{left} media that it requested before are fetched all the same")


def _find(here: runtime.Runtime, job_id: int) -> Job:
    with here.store.reading() as connection:
        job = Jobs(connection).find(job_id)
    if job is None:
        raise typer.Exit(print_error(f"there is no job {job_id}; see: vodsync jobs list", Exit.FAILED))
    return job


def start(source: str, kind: str, parameters: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Start a job, or find the one that runs; with `wait` stay until it is over, and exit 1 where it failed."""
    here = ready(source)
    job, new = here.store.transact(lambda connection: Jobs(connection).start(source, kind, parameters, now=runtime.now()))
    if not new and job.parameters != parameters:
        begun = (
            f"{kind} {job.id} of {cell(source)} is there already ({job.state}), and was started with {json.dumps(job.parameters)}"
        )
        again = f"wait for it (vodsync jobs show {job.id}), or end it: vodsync jobs cancel {job.id}"
        raise typer.Exit(print_error(f"{begun}; nothing was started. {again}", Exit.FAILED))
    if not new:
        print_info(f"{kind} {job.id} of {cell(source)} is there already ({job.state}); this is about that one")
    if not wait:
        if as_json:
            print_json(asdict(job))
        else:
            print_info(f"{kind} {job.id}: a worker does it; look with: vodsync jobs show {job.id}")
        return
    try:
        job = _watch(here, job, as_json)
    except KeyboardInterrupt:
        print_info(f"{kind} {job.id} goes on without you; stop it with: vodsync jobs cancel {job.id}")
        raise typer.Exit(130) from None
    _tell(job, as_json)
    if job.state == JobState.FAILED:
        raise typer.Exit(print_error(f"{kind} {job.id} failed: {job.last_error}", Exit.FAILED))
    print_info(f"{kind} {job.id} {job.state}: {counted(job)}")
    for name, media_ids in (job.checkpoint or {}).get("examples", {}).items():
        print_info(f"  {name}, such as: {', '.join(map(cell, media_ids))}")
    if job.counters.get("dead"):
        raise typer.Exit(print_error(f"{job.counters['dead']} media became dead letters; look: vodsync failures list", Exit.FAILED))
    if job.state != JobState.DONE:
        raise typer.Exit(Exit.FAILED)


def preview(steps: Iterable[Mapping[str, int]], progress: str, *, as_json: bool) -> None:
    """What a job would count, added up; the counter `progress` says how far it is."""
    total: Counter[str] = Counter()
    with Bar(progress) as bar:
        for step in steps:
            total.update(step)
            bar.reach(total[progress])
    if as_json:
        print_json(total)
    else:
        print_info(f"{_named(total)} (dry run)")


def _watch(here: runtime.Runtime, job: Job, as_json: bool) -> Job:
    """The job once it is over, or paused. A database that is away for a while is waited for."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    told_at = wondered_at = time.monotonic()
    told: Job | None = None
    drawn = stderr.is_terminal and not as_json
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=stderr, disable=not drawn) as progress:
        task = progress.add_task(job.kind, total=None, rate="")
        began, (first, _) = time.monotonic(), _progress(job)
        _tell(job, as_json)
        while job.state not in (*FINAL_STATES, JobState.PAUSED):
            time.sleep(_LOOK)
            try:
                with here.store.reading() as connection:
                    job = Jobs(connection).find(job.id) or job
            except StoreUnavailableError as error:
                print_error(error, Exit.UNREACHABLE)
                time.sleep(5)
                continue
            done, total = _progress(job)
            rate = max(0, done - first) / max(time.monotonic() - began, 0.001)
            progress.update(task, total=total, completed=done, rate=f"{rate:.0f}/s")
            if not drawn and time.monotonic() - told_at > _LINE:
                told_at = time.monotonic()
                _tell(job, as_json, rate)
                if not as_json:
                    print_info(
                        f"{job.kind} {job.id}: {counted(job)}, {rate:.0f}/s{f'; {job.last_error}' if job.last_error else ''}"
                    )
            if job != told:
                told, wondered_at = job, time.monotonic()
            elif time.monotonic() - wondered_at > _WONDER:
                wondered_at = time.monotonic()
                _wonder(here, job)
    return job


def _progress(job: Job) -> tuple[int, int | None]:
    """How much is done, and of how much: media that are fetched where fetching is what remains, listed or read ones before."""
    counted = job.counters
    if "known" in counted and not job.parameters.get("dry_run"):
        return counted["known"] + counted.get("fetched", 0) + counted.get("dead", 0), counted.get("total")
    if (job.checkpoint or {}).get("phase") in ("settle", "fetch"):
        return counted.get("fetched", 0), counted.get("missed", 0) + counted.get("changed", 0)
    return next((counted[name] for name in ("listed", "read", "matched") if name in counted), 0), counted.get("total")


def _tell(job: Job, as_json: bool, rate: float | None = None) -> None:
    """One line for programs: the job, media a second, and seconds left."""
    if as_json:
        done, total = _progress(job)
        left = max(0, total - done) / rate if total and rate else None
        line = asdict(job) | {"media_per_second": rate and round(rate, 1), "seconds_left": left and round(left)}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()


def _wonder(here: runtime.Runtime, job: Job) -> None:
    if job.last_error:
        print_info(f"vodsync: {job.last_error}; it is tried again")
        return
    if sentence := first_problem(here):
        print_info(f"vodsync: {sentence}")


def counted(job: Job) -> str:
    return _named(job.counters)


def _named(counters: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counters.items()) or "nothing yet"


def parse_time(text: str | None, option: str) -> datetime | None:
    """A time given on the command line; without a zone it is UTC."""
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.Exit(
            print_error(f"{option} {cell(text)} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z", Exit.USAGE)
        ) from None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def parse_range(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The times given with --since and --until."""
    begin, end = parse_time(since, "--since"), parse_time(until, "--until")
    if begin and end and begin > end:
        raise typer.Exit(print_error("--since lies behind --until", Exit.USAGE))
    return begin, end
