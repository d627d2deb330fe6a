"""`vodsync backfill`: load a VOD library."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from worker.cli import job_runs
from worker.cli.options import JobAsJson, SourceName, WaitForJob
from worker.cli.output import Exit, print_error
from worker.cli.time_range import parse_range
from worker.settings import DEFAULT_SOURCE
from worker.sync.jobs.backfill import KIND


class MediaType(enum.StrEnum):
    VIDEO = "video"
    AUDIO = "audio"


def backfill(
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only media created at this time or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only media created at this time or earlier.")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS,...", help="Only media with one of these statuses, such as Normal,Blocked.")
    ] = None,
    type_: Annotated[str, typer.Option("--type", metavar="TYPE,...", help="video, audio or both.")] = "video,audio",
    source: SourceName = DEFAULT_SOURCE,
    wait: WaitForJob = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List and count; fetch nothing and change nothing.")] = False,
    as_json: JobAsJson = False,
) -> None:
    """List the VOD library and fetch what is not stored or has changed.

    A worker does it, after live notifications, and continues by itself after an interruption. If a backfill of this source already
    runs, no second one is started. Needs the RAM permission vod:SearchMedia.
    """
    begin, end = parse_range(since, until)
    types = _split(type_)
    if not types or not set(types) <= set(MediaType):
        raise typer.Exit(print_error("--type takes video, audio or video,audio", Exit.USAGE))
    statuses = _split(status or "")
    if not all(word.isalpha() for word in statuses):
        raise typer.Exit(print_error("--status takes statuses of VOD, such as Normal,Blocked", Exit.USAGE))
    parameters = {
        "since": begin.isoformat() if begin else None,
        "until": end.isoformat() if end else None,
        "status": statuses,
        "type": list(dict.fromkeys(types)),
        "dry_run": dry_run,
    }
    job_runs.start(source, KIND, parameters, wait=wait, as_json=as_json)


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]
