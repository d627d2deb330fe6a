"""Verbs about dead letters: media that vodsync gave up fetching."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from worker import runtime
from worker.cli.context import ready
from worker.cli.output import Exit, cell, counted, print_error, print_info, print_json, stdout, table
from worker.cli.sync import wake_workers
from worker.store.inbox.dead_letters import DeadLetterFilter, DeadLetters

app = typer.Typer(help="Look at media that vodsync gave up on, have them tried again, or drop them.", no_args_is_help=True)

_Ids = Annotated[list[str] | None, typer.Argument(help="Media ids, as `failures list` shows them.")]
_Source = Annotated[str | None, typer.Option(help="Only those of this source.")]
_Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only those whose error contains this, or that were requested for this event.")
]
_All = Annotated[bool, typer.Option("--all", help="All that there are.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_(
    source: _Source = None,
    reason: _Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: _AsJson = False,
) -> None:
    """List dead letters, the latest first, with the error that was the last."""
    here = ready(source)
    choice = DeadLetterFilter(source=source, text=reason)
    with here.store.reading() as connection:
        failures = list(DeadLetters(connection).find(choice, limit=limit))
        count = DeadLetters(connection).count(choice)
    if as_json:
        print_json([asdict(failure) for failure in failures])
        return
    if failures:
        shown = table(None, "source", "media_id", "attempts", "failed_at", "error")
        for failure in failures:
            at = f"{failure.failed_at:%Y-%m-%d %H:%M:%S}"
            shown.add_row(failure.source, cell(failure.media_id), str(failure.attempts), at, cell(failure.error))
        stdout.print(shown)
    print_info(counted(count, "dead letter") + (f", {limit} shown; --limit shows more" if count > limit else ""))


@app.command()
def show(
    media_id: Annotated[str, typer.Argument(help="The id, as `failures list` shows it.")],
    source: _Source = None,
    as_json: _AsJson = False,
) -> None:
    """Show one dead letter whole."""
    here = ready(source)
    with here.store.reading() as connection:
        found = list(DeadLetters(connection).find(DeadLetterFilter(source=source, media_ids=[media_id]), limit=100))
    if not found:
        raise typer.Exit(print_error(f"no dead letter has the id {cell(media_id)}", Exit.FAILED))
    if as_json:
        print_json([asdict(failure) for failure in found])
        return
    for failure in found:
        shown = table(None, "field", "value")
        for name, value in asdict(failure).items():
            shown.add_row(name, cell(value))
        stdout.print(shown)


@app.command()
def retry(
    ids: _Ids = None, source: _Source = None, reason: _Reason = None, everything: _All = False, dry_run: _DryRun = False
) -> None:
    """Have dead letters tried again, with all their attempts before them."""
    _act("made due again", ids, source, reason, everything, dry_run)


@app.command()
def drop(
    ids: _Ids = None, source: _Source = None, reason: _Reason = None, everything: _All = False, dry_run: _DryRun = False
) -> None:
    """Forget dead letters. The next notification of a medium, or `vodsync sync`, makes it due again."""
    _act("dropped", ids, source, reason, everything, dry_run)


def _act(done: str, ids: list[str] | None, source: str | None, reason: str | None, everything: bool, dry_run: bool) -> None:
    if bool(ids) + bool(reason) + everything != 1:
        raise typer.Exit(print_error("say which: ids, --reason TEXT or --all", Exit.USAGE))
    here = ready(source)
    choice = DeadLetterFilter(source=source, media_ids=ids or [], text=reason)
    if dry_run:
        with here.store.reading() as connection:
            count = DeadLetters(connection).count(choice)
    elif done == "dropped":
        count = here.store.transact(lambda connection: DeadLetters(connection).drop(choice))
    else:
        count = here.store.transact(lambda connection: DeadLetters(connection).retry(choice, now=runtime.now()))
        wake_workers()
    print_info(f"{counted(count, 'dead letter')} {done}" + (" (dry run)" if dry_run else ""))
    if ids and count < len(set(ids)):
        raise typer.Exit(print_error(f"{len(set(ids)) - count} of the ids are no dead letters", Exit.FAILED))
