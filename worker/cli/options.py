"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

SourceName = Annotated[str, typer.Option("--source", help="Source (account and region), as named in vodsync.toml.")]
AnySourceName = Annotated[str | None, typer.Option("--source", help="Only this source.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")]

Host = Annotated[str | None, typer.Option(help="Address to listen on (default: VODSYNC_HOST).")]
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on (default: VODSYNC_PORT).")]
Concurrency = Annotated[
    int, typer.Option(min=1, help="Batches fetched at the same time; with several sources at least 2 are used.")
]
PollSmq = Annotated[
    bool, typer.Option("--smq", help="Also read VOD's events from a queue (VODSYNC_SMQ_ENDPOINT, VODSYNC_SMQ_QUEUE).")
]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]

#: For long runs.
WaitForJob = Annotated[bool, typer.Option("--wait", help="Show progress until the job ends; exit 1 if it failed.")]
JobAsJson = Annotated[bool, typer.Option("--json", help="Print JSON; with --wait one line at each report.")]
