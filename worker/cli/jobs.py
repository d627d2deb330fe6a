"""`vodsync jobs`: list, show, pause, resume and cancel long runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from worker import runtime
from worker.cli.context import open_installation
from worker.cli.options import AsJson
from worker.cli.output import Exit, counters_text, print_error, print_info, print_json
from worker.cli.table import Table
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job, Jobs

app = typer.Typer(help="List, pause, resume or cancel long runs such as backfill and reconcile.", no_args_is_help=True)

_JobId = Annotated[int, typer.Argument(metavar="ID", help="The id of the job, as `jobs list` shows it.")]


@app.command(name="list")
def list_(limit: Annotated[int, typer.Option(min=1, help="Largest number of jobs.")] = 20, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    installation = open_installation()
    with installation.store.reading() as connection:
        jobs = Jobs(connection).latest(limit=limit)
    if as_json:
        print_json([asdict(job) for job in jobs])
        return
    listing = Table("id", "kind", "source", "state", "started", "counters", "error")
    for job in jobs:
        kind = f"{job.kind} (dry run)" if job.parameters.get("dry_run") else job.kind
        started = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
        listing.add(job.id, kind, job.source, job.state, started, counters_text(job.counters.items()), job.last_error)
    listing.print()


@app.command()
def show(job_id: _JobId, as_json: AsJson = False) -> None:
    """Show one job with its parameters, counters and checkpoint."""
    job = _find(open_installation(), job_id)
    if as_json:
        print_json(asdict(job))
        return
    fields = Table("field", "value")
    for name, value in asdict(job).items():
        fields.add(name, json.dumps(value) if isinstance(value, dict) else value)
    fields.print()


@app.command()
def pause(job_id: _JobId) -> None:
    """Pause a job until it is resumed. The fetches that it has requested still take place."""
    installation = open_installation()
    _change_state(installation, job_id, Jobs.pause, done="paused", refused="is not running")
    _print_remaining(installation, job_id)


@app.command()
def resume(job_id: _JobId) -> None:
    """Continue a paused job at its checkpoint."""
    _change_state(open_installation(), job_id, Jobs.resume, done="resumed", refused="is not paused")


@app.command()
def cancel(job_id: _JobId) -> None:
    """End a job. The fetches that it has requested still take place."""
    installation = open_installation()
    _change_state(installation, job_id, Jobs.cancel, done="cancelled", refused="has already ended")
    _print_remaining(installation, job_id)


def _change_state(installation: runtime.Runtime, job_id: int, change: Callable[..., bool], *, done: str, refused: str) -> None:
    _find(installation, job_id)
    if not installation.store.transact(lambda connection: change(Jobs(connection), job_id, now=installation.store.now())):
        message = f"job {job_id} {refused}; its state is shown by: vodsync jobs show {job_id}"
        raise typer.Exit(print_error(message, Exit.FAILED))
    print_info(f"job {job_id} {done}")


def _print_remaining(installation: runtime.Runtime, job_id: int) -> None:
    job = _find(installation, job_id)
    with installation.store.reading() as connection:
        remaining = Inventory(connection, job.source).count_unfetched(job.kind)
    if remaining:
        print_info(f"{remaining} media that it requested before will still be fetched")


def _find(installation: runtime.Runtime, job_id: int) -> Job:
    with installation.store.reading() as connection:
        job = Jobs(connection).find(job_id)
    if job is None:
        raise typer.Exit(print_error(f"job {job_id} does not exist; list the jobs with: vodsync jobs list", Exit.FAILED))
    return job
