"""The verb that reads again what VOD told us, after the parser has learned something."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import jobs
from worker.cli.context import ready
from worker.settings import DEFAULT_SOURCE
from worker.sync.jobs.renormalise import KIND, preview


def renormalise(
    source: Annotated[str, typer.Option(help="The account + region, as named in vodsync.toml.")] = DEFAULT_SOURCE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Derive all typed columns from VOD's stored answers again, without asking VOD. Workers do it.

    To be run after an upgrade that reads more of the answers; what is equal is not written.
    """
    if dry_run:
        jobs.preview(preview(ready(source).store, source), "read", as_json=as_json)
    else:
        jobs.start(source, KIND, {}, wait=wait, as_json=as_json)
