"""`vodsync replay`: process recorded notifications again."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import job_runs
from worker.cli.context import open_installation
from worker.cli.options import DryRun, JobAsJson, SourceName, WaitForJob
from worker.cli.time_range import parse_range
from worker.settings import DEFAULT_SOURCE
from worker.store.inbox.notification_log import NotificationFilter
from worker.sync.jobs.replay import KIND, parameters, preview


def replay(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only notifications received at this time or later; UTC without an offset.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only notifications received before this time.")] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Only notifications of this EventType, such as TranscodeComplete.")
    ] = None,
    media_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Only notifications that name this media id; no other asset is fetched.")
    ] = None,
    source: SourceName = DEFAULT_SOURCE,
    wait: WaitForJob = False,
    dry_run: DryRun = False,
    as_json: JobAsJson = False,
) -> None:
    """Process recorded notifications again.

    A worker requests a fetch of the media that they name, with priority manual.

    Example: vodsync replay --since 2026-01-31T12:00:00Z --type TranscodeComplete --wait
    """
    matching = NotificationFilter(*parse_range(since, until), event_type, media_id)
    if dry_run:
        job_runs.preview(preview(open_installation(source).store, source, matching), "matched", as_json=as_json)
    else:
        job_runs.start(source, KIND, parameters(matching), wait=wait, as_json=as_json)
