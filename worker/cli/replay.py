"""The verb that handles recorded notifications again."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import jobs
from worker.cli.context import ready
from worker.settings import DEFAULT_SOURCE
from worker.store.inbox.notification_log import NotificationFilter
from worker.sync.jobs.replay import KIND, parameters, preview


def replay(
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Received then or later; UTC without an offset.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Received before then.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", metavar="T", help="Of this type: TranscodeComplete.")] = None,
    media_id: Annotated[str | None, typer.Option(metavar="ID", help="That name this medium; no other one is fetched.")] = None,
    source: Annotated[str, typer.Option(help="The account + region, as named in vodsync.toml.")] = DEFAULT_SOURCE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all is requested.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Handle recorded notifications again: request the media that they ask to fetch. Workers do it; live ones go first.

    Example: vodsync replay --since 2026-01-31T12:00:00Z --type TranscodeComplete --wait
    """
    which = NotificationFilter(*jobs.parse_range(since, until), event_type, media_id)
    if dry_run:
        jobs.preview(preview(ready(source).store, source, which), "matched", as_json=as_json)
    else:
        jobs.start(source, KIND, parameters(which), wait=wait, as_json=as_json)
