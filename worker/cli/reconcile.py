"""`vodsync reconcile`: find and repair differences between the VOD library and the database."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import job_runs
from worker.cli.options import JobAsJson, SourceName, WaitForJob
from worker.settings import DEFAULT_SOURCE
from worker.sync.jobs.reconcile import KIND


def reconcile(
    full: Annotated[
        bool, typer.Option("--full", help="List the whole library, not only what changed since the last reconciliation.")
    ] = False,
    allow_mass_delete: Annotated[
        bool,
        typer.Option(
            "--allow-mass-delete", help="Mark assets as deleted even if they are more than VODSYNC_MOST_DELETED_PERCENT of all."
        ),
    ] = False,
    source: SourceName = DEFAULT_SOURCE,
    wait: WaitForJob = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List and count; fetch nothing and mark nothing.")] = False,
    as_json: JobAsJson = False,
) -> None:
    """Compare the VOD library with the database and repair the differences.

    Fetches assets that are missing or have changed without a notification, and marks assets as deleted after VOD has confirmed
    that they are gone. Workers do this on their own every VODSYNC_RECONCILE_HOURS, and in full every VODSYNC_RECONCILE_FULL_DAYS.
    Needs the RAM permission vod:SearchMedia.
    """
    parameters = {"full": full, "allow_mass_delete": allow_mass_delete, "dry_run": dry_run}
    job_runs.start(source, KIND, parameters, wait=wait, as_json=as_json)
