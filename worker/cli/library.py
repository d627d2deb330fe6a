"""Verbs about the library as a whole: load what is there, find and repair what drifted apart."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from worker.cli import jobs
from worker.cli.output import Exit, print_error
from worker.settings import DEFAULT_SOURCE
from worker.sync.jobs import backfill as backfilling
from worker.sync.jobs import reconcile as reconciling


class MediaType(enum.StrEnum):
    VIDEO = "video"
    AUDIO = "audio"


_Source = Annotated[str, typer.Option(help="The account + region, as named in vodsync.toml.")]
_Wait = Annotated[bool, typer.Option("--wait", help="Stay and show the progress until it is over; exit 1 where it failed.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list and count; nothing is fetched or changed.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with --wait a line each time.")]


def backfill(
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only media created from then on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only media created until then.")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS,...", help="Only media in one of these, such as Normal,Blocked.")
    ] = None,
    type_: Annotated[str, typer.Option("--type", metavar="TYPE,...", help="video, audio or both.")] = "video,audio",
    source: _Source = DEFAULT_SOURCE,
    wait: _Wait = False,
    dry_run: _DryRun = False,
    as_json: _AsJson = False,
) -> None:
    """List the library and have fetched what is not stored yet, or changed since. Live notifications go first.

    A worker does it and goes on by itself after any interruption; a second start finds the one that runs. Needs the RAM right
    vod:SearchMedia.
    """
    begin, end = jobs.parse_range(since, until)
    types = [part.strip() for part in type_.split(",") if part.strip()]
    if not types or not set(types) <= set(MediaType):
        raise typer.Exit(print_error("--type takes video, audio or video,audio", Exit.USAGE))
    statuses = [part.strip() for part in (status or "").split(",") if part.strip()]
    if not all(part.isalpha() for part in statuses):
        raise typer.Exit(print_error("--status takes VOD's words, such as Normal,Blocked", Exit.USAGE))
    parameters = {
        "since": begin.isoformat() if begin else None,
        "until": end.isoformat() if end else None,
        "status": statuses,
        "type": list(dict.fromkeys(types)),
        "dry_run": dry_run,
    }
    jobs.start(source, backfilling.KIND, parameters, wait=wait, as_json=as_json)


def reconcile(
    full: Annotated[bool, typer.Option("--full", help="List everything, not only what changed since the last time.")] = False,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Mark as deleted however many are gone (VODSYNC_MOST_DELETED_PERCENT).")
    ] = False,
    source: _Source = DEFAULT_SOURCE,
    wait: _Wait = False,
    dry_run: _DryRun = False,
    as_json: _AsJson = False,
) -> None:
    """Find media that we miss, that changed behind our back, and that are gone; have them fetched, or marked as deleted.

    Workers do this by themselves every VODSYNC_RECONCILE_HOURS, and in full every VODSYNC_RECONCILE_FULL_DAYS. A medium is marked
    only after VOD was asked for it. Needs the RAM right vod:SearchMedia.
    """
    parameters = {"full": full, "allow_mass_delete": allow_mass_delete, "dry_run": dry_run}
    jobs.start(source, reconciling.KIND, parameters, wait=wait, as_json=as_json)
