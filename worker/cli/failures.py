"""`vodsync failures`: list, show, retry and drop dead letters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from worker import runtime
from worker.cli.context import open_installation
from worker.cli.options import AnySourceName, AsJson, DryRun
from worker.cli.output import Exit, count_of, print_error, print_info, print_json, printable
from worker.cli.table import Table
from worker.cli.wake_up import wake_workers
from worker.store.inbox.dead_letters import DeadLetterFilter, DeadLetters

app = typer.Typer(help="List, retry or drop dead letters: media that vodsync gave up fetching.", no_args_is_help=True)

MAX_SHOWN = 100  # dead letters with one id, at most one per source

_Ids = Annotated[list[str] | None, typer.Argument(help="Media ids, as `failures list` shows them.")]
_Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only dead letters whose error contains this text, or that this event type requested."),
]
_All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@app.command(name="list")
def list_(
    source: AnySourceName = None,
    reason: _Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of dead letters.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters with their last error, latest first."""
    installation = open_installation(source)
    matching = DeadLetterFilter(source=source, text=reason)
    with installation.store.reading() as connection:
        dead_letters = list(DeadLetters(connection).find(matching, limit=limit))
        count = DeadLetters(connection).count(matching)
    if as_json:
        print_json([asdict(dead_letter) for dead_letter in dead_letters])
        return
    if dead_letters:
        listing = Table("source", "media_id", "attempts", "failed_at", "error")
        for dead_letter in dead_letters:
            failed_at = f"{dead_letter.failed_at:%Y-%m-%d %H:%M:%S}"
            listing.add(dead_letter.source, dead_letter.media_id, dead_letter.attempts, failed_at, dead_letter.error)
        listing.print()
    print_info(
        count_of(count, "dead letter") + (f", the latest {limit} are shown; show more with --limit" if count > limit else "")
    )


@app.command()
def show(
    media_id: Annotated[str, typer.Argument(help="The id, as `failures list` shows it.")],
    source: AnySourceName = None,
    as_json: AsJson = False,
) -> None:
    """Show all fields of one dead letter."""
    installation = open_installation(source)
    matching = DeadLetterFilter(source=source, media_ids=[media_id])
    with installation.store.reading() as connection:
        dead_letters = list(DeadLetters(connection).find(matching, limit=MAX_SHOWN))
    if not dead_letters:
        message = f"there is no dead letter with the id {printable(media_id)}; list them with: vodsync failures list"
        raise typer.Exit(print_error(message, Exit.FAILED))
    if as_json:
        print_json([asdict(dead_letter) for dead_letter in dead_letters])
        return
    for dead_letter in dead_letters:
        fields = Table("field", "value")
        for name, value in asdict(dead_letter).items():
            fields.add(name, value)
        fields.print()


@app.command()
def retry(
    ids: _Ids = None, source: AnySourceName = None, reason: _Reason = None, everything: _All = False, dry_run: DryRun = False
) -> None:
    """Make dead letters due again, with the full number of attempts."""
    matching = _chosen(ids, source, reason, everything=everything)
    installation = open_installation(source)
    if dry_run:
        count = _count(installation, matching)
    else:
        count = installation.store.transact(
            lambda connection: DeadLetters(connection).retry(matching, now=installation.store.now())
        )
        wake_workers()
    _report(count, "made due again", ids, dry_run=dry_run)


@app.command()
def drop(
    ids: _Ids = None, source: AnySourceName = None, reason: _Reason = None, everything: _All = False, dry_run: DryRun = False
) -> None:
    """Delete dead letters. The next notification of an asset, or `vodsync sync`, requests it again."""
    matching = _chosen(ids, source, reason, everything=everything)
    installation = open_installation(source)
    if dry_run:
        count = _count(installation, matching)
    else:
        count = installation.store.transact(lambda connection: DeadLetters(connection).drop(matching))
    _report(count, "dropped", ids, dry_run=dry_run)


def _chosen(ids: list[str] | None, source: str | None, reason: str | None, *, everything: bool) -> DeadLetterFilter:
    """Exits with code 2 unless exactly one of ids, reason and everything is given."""
    if bool(ids) + bool(reason) + everything != 1:
        raise typer.Exit(print_error("name the dead letters by ids, by --reason TEXT, or by --all", Exit.USAGE))
    return DeadLetterFilter(source=source, media_ids=ids or [], text=reason)


def _count(installation: runtime.Runtime, matching: DeadLetterFilter) -> int:
    with installation.store.reading() as connection:
        return DeadLetters(connection).count(matching)


def _report(count: int, done: str, ids: list[str] | None, *, dry_run: bool) -> None:
    print_info(f"{count_of(count, 'dead letter')} {done}" + (" (dry run)" if dry_run else ""))
    if ids and count < len(set(ids)):
        message = f"{len(set(ids)) - count} of the ids are not dead letters; list them with: vodsync failures list"
        raise typer.Exit(print_error(message, Exit.FAILED))
