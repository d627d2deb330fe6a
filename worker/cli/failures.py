"""`vodsync failures`: list, show, retry and drop dead letters and refused notifications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from worker.cli.context import open_installation
from worker.cli.options import AnySourceName, AsJson, DryRun
from worker.cli.output import Exit, count_of, print_error, print_info, print_json, printable
from worker.cli.table import Table
from worker.cli.wake_up import wake_workers
from worker.runtime import Runtime
from worker.store.inbox.dead_letters import DeadLetter, DeadLetterFilter, DeadLetters
from worker.store.refused import RefusedDelivery, RefusedFilter
from worker.sync.receive import retry_refused

app = typer.Typer(
    help="List, show, retry or drop dead letters and refused notifications: what vodsync gave up on.",
    no_args_is_help=True,
)

MAX_SHOWN = 100  # dead letters with one id, at most one per source

#: The id of a refused notification. A media id contains no colon.
REFUSED_PREFIX = "refused:"

_Ids = Annotated[
    list[str] | None, typer.Argument(help="Media ids and ids of refused notifications, as `failures list` shows them.")
]
_Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only failures whose error contains this text, or that this event type caused."),
]
_All = Annotated[bool, typer.Option("--all", help="All dead letters and refused notifications.")]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The failures that a command is about."""

    dead_letters: DeadLetterFilter | None
    refused: RefusedFilter | None

    def count(self, installation: Runtime) -> tuple[int, int]:
        """Return how many dead letters and how many refused notifications there are."""
        dead_letters = 0
        if self.dead_letters is not None:
            with installation.store.reading() as connection:
                dead_letters = DeadLetters(connection).count(self.dead_letters)
        return dead_letters, installation.refused.count(self.refused) if self.refused else 0


@app.command(name="list")
def list_(
    source: AnySourceName = None,
    reason: _Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of each kind.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters and refused notifications with their last error, latest first."""
    installation = open_installation(source)
    matching = _Chosen(DeadLetterFilter(source=source, text=reason), RefusedFilter(source=source, text=reason))
    dead_letters, refused = _find(installation, matching, limit=limit)
    dead_letter_count, refused_count = matching.count(installation)
    if as_json:
        print_json([*map(_dead_letter_json, dead_letters), *map(_refused_json, refused)])
        return
    if dead_letters:
        listing = Table("source", "media_id", "attempts", "failed_at", "error")
        for dead_letter in dead_letters:
            failed_at = f"{dead_letter.failed_at:%Y-%m-%d %H:%M:%S}"
            listing.add(dead_letter.source, dead_letter.media_id, dead_letter.attempts, failed_at, dead_letter.error)
        listing.print()
    print_info(_count_shown(dead_letter_count, "dead letter", limit))
    if refused:
        listing = Table("source", "id", "media_id", "tries", "refused_at", "error")
        for item in refused:
            refused_at = f"{item.refused_at:%Y-%m-%d %H:%M:%S}"
            listing.add(item.delivery.source, _refused_id(item), item.delivery.media_id, item.tries, refused_at, item.reason)
        listing.print()
        print_info(_count_shown(refused_count, "refused notification", limit))


@app.command()
def show(
    failure_id: Annotated[str, typer.Argument(metavar="ID", help="The id, as `failures list` shows it.")],
    source: AnySourceName = None,
    as_json: AsJson = False,
) -> None:
    """Show all fields of one dead letter, or of one refused notification with its body."""
    installation = open_installation(source)
    dead_letters, refused = _find(installation, _chosen([failure_id], source, None, everything=False), limit=MAX_SHOWN)
    failures = [*map(_dead_letter_json, dead_letters), *(_refused_json(item) | _content(item) for item in refused)]
    if not failures:
        message = f"there is no failure with the id {printable(failure_id)}; list them with: vodsync failures list"
        raise typer.Exit(print_error(message, Exit.FAILED))
    if as_json:
        print_json(failures)
        return
    for failure in failures:
        fields = Table("field", "value")
        for name, value in failure.items():
            fields.add(name, value)
        fields.print()


@app.command()
def retry(
    ids: _Ids = None, source: AnySourceName = None, reason: _Reason = None, everything: _All = False, dry_run: DryRun = False
) -> None:
    """Make dead letters due again with the full number of attempts, and store refused notifications again."""
    chosen = _chosen(ids, source, reason, everything=everything)
    installation = open_installation(source)
    dead_letters, refused = chosen.count(installation)
    still_refused: list[str] = []
    if not dry_run:
        now = installation.store.now()
        if chosen.dead_letters is not None:
            matching = chosen.dead_letters
            dead_letters = installation.store.transact(lambda connection: DeadLetters(connection).retry(matching, now=now))
        if chosen.refused is not None:
            refused_ids = installation.refused.ids(chosen.refused)
            refused, still_refused = retry_refused(installation.store, installation.refused, refused_ids, now=now)
        wake_workers()
    _report(chosen, (dead_letters, "made due again"), (refused, "stored"), ids, dry_run=dry_run, known=len(still_refused))
    if still_refused:
        message = f"{count_of(len(still_refused), 'notification')} refused again: {still_refused[-1]}"
        raise typer.Exit(print_error(message, Exit.FAILED))


@app.command()
def drop(
    ids: _Ids = None, source: AnySourceName = None, reason: _Reason = None, everything: _All = False, dry_run: DryRun = False
) -> None:
    """Delete dead letters and refused notifications. The next notification of an asset, or `vodsync sync`, requests it again."""
    chosen = _chosen(ids, source, reason, everything=everything)
    installation = open_installation(source)
    dead_letters, refused = chosen.count(installation)
    if not dry_run:
        if chosen.dead_letters is not None:
            matching = chosen.dead_letters
            dead_letters = installation.store.transact(lambda connection: DeadLetters(connection).drop(matching))
        if chosen.refused is not None:
            refused = installation.refused.drop(chosen.refused)
    _report(chosen, (dead_letters, "dropped"), (refused, "dropped"), ids, dry_run=dry_run)


def _chosen(ids: list[str] | None, source: str | None, reason: str | None, *, everything: bool) -> _Chosen:
    """Exits with code 2 unless exactly one of ids, reason and everything is given."""
    if bool(ids) + bool(reason) + everything != 1:
        raise typer.Exit(print_error("name the failures by ids, by --reason TEXT, or by --all", Exit.USAGE))
    if not ids:
        return _Chosen(DeadLetterFilter(source=source, text=reason), RefusedFilter(source=source, text=reason))
    media_ids = [text for text in ids if not text.startswith(REFUSED_PREFIX)]
    numbers = [text.removeprefix(REFUSED_PREFIX) for text in ids if text.startswith(REFUSED_PREFIX)]
    # More than 18 digits are no id, and SQLite does not take them.
    refused_ids = [int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) <= 18]
    return _Chosen(
        DeadLetterFilter(source=source, media_ids=media_ids) if media_ids else None,
        RefusedFilter(source=source, ids=refused_ids) if refused_ids else None,
    )


def _find(installation: Runtime, chosen: _Chosen, *, limit: int) -> tuple[Sequence[DeadLetter], Sequence[RefusedDelivery]]:
    dead_letters: list[DeadLetter] = []
    if chosen.dead_letters is not None:
        with installation.store.reading() as connection:
            dead_letters = list(DeadLetters(connection).find(chosen.dead_letters, limit=limit))
    return dead_letters, installation.refused.find(chosen.refused, limit=limit) if chosen.refused else []


def _refused_id(item: RefusedDelivery) -> str:
    return f"{REFUSED_PREFIX}{item.id}"


def _dead_letter_json(dead_letter: DeadLetter) -> dict[str, Any]:
    return {"kind": "dead_letter", "id": dead_letter.media_id} | asdict(dead_letter)


def _refused_json(item: RefusedDelivery) -> dict[str, Any]:
    delivery = item.delivery
    return {
        "kind": "refused_notification",
        "id": _refused_id(item),
        "source": delivery.source,
        "media_id": delivery.media_id,
        "reason": delivery.event_type,
        "attempts": item.tries,
        "requested_at": delivery.received_at,
        "failed_at": item.refused_at,
        "error": item.reason,
    }


def _content(item: RefusedDelivery) -> dict[str, Any]:
    """Return what `failures show` shows of a refused notification beside the members of the list."""
    delivery = item.delivery
    return {
        "media_ids": list(delivery.media_ids),
        "event_time": delivery.event_time,
        "status": delivery.status,
        "body": delivery.body,
    }


def _count_shown(count: int, thing: str, limit: int) -> str:
    return count_of(count, thing) + (f", the latest {limit} are shown; show more with --limit" if count > limit else "")


def _report(
    chosen: _Chosen,
    dead_letters: tuple[int, str],
    refused: tuple[int, str],
    ids: list[str] | None,
    *,
    dry_run: bool,
    known: int = 0,
) -> None:
    """Print what was done with how many. `known` is the number of chosen failures that stay."""
    suffix = " (dry run)" if dry_run else ""
    if chosen.dead_letters is not None:
        print_info(f"{count_of(dead_letters[0], 'dead letter')} {dead_letters[1]}{suffix}")
    if chosen.refused is not None and (ids or refused[0]):
        print_info(f"{count_of(refused[0], 'refused notification')} {refused[1]}{suffix}")
    missing = len(set(ids or ())) - dead_letters[0] - refused[0] - known
    if missing > 0:
        message = f"{missing} of the ids are not failures; list them with: vodsync failures list"
        raise typer.Exit(print_error(message, Exit.FAILED))
