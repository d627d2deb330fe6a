"""The verb that asks for media to be fetched (again)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from worker import runtime
from worker.cli.context import ready
from worker.cli.id_input import read_ids
from worker.cli.output import Bar, Exit, cell, print_error, print_info, print_json
from worker.cli.progress import Awaited, wait
from worker.core import ids as core_ids
from worker.settings import DEFAULT_SOURCE
from worker.store.catalogue import assets
from worker.store.catalogue.media_filter import FIELDS, NUMBERS, MediaFilter, selected
from worker.store.inbox.outcomes import Outcome
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Request, SyncRequests

#: Ids requested in one transaction.
_CHUNK = 1000

#: Ids that are none, or did not arrive, and are named.
_NAMED = 20

_STATES = (assets.OK, assets.MISSING, assets.FORBIDDEN, assets.DELETED)


class Priority(enum.StrEnum):
    LIVE = "live"
    MANUAL = "manual"
    BACKFILL = "backfill"


_LANES = {Priority.LIVE: LIVE, Priority.MANUAL: MANUAL, Priority.BACKFILL: BACKFILL}


def sync(
    ids: Annotated[list[str] | None, typer.Argument(help="Media ids, or - to read them from stdin.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F", help="Read ids from a file, separated by white space or commas.")
    ] = None,
    reference_ids: Annotated[bool, typer.Option("--reference-ids", help="The ids are your own ReferenceIds.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help=f"Stored media with this value (none: FIELD=). Fields: {', '.join(FIELDS)}."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Stored media that were last fetched longer ago: 30d, 12h or 90m.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(metavar="NAME", help="Stored media with a stream or play stream in this codec: hevc.")
    ] = None,
    unreadable: Annotated[bool, typer.Option("--unreadable", help="Stored media with fields that could not be read.")] = False,
    source: Annotated[str, typer.Option(help="The account + region, as named in vodsync.toml.")] = DEFAULT_SOURCE,
    priority: Annotated[
        Priority, typer.Option(help="Before everything, after live notifications, or when there is nothing else.")
    ] = Priority.MANUAL,
    wait_: Annotated[bool, typer.Option("--wait", help="Wait until each was fetched; exit 1 where one could not be.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="Seconds to wait at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Request that media be fetched (again): those given, or the stored ones that pass all of the filters.

    Examples: vodsync sync 0a1b2c3d4e5f60718293a4b5c6d7e8f9 --wait; vodsync sync --file ids.txt; sort ids.txt | vodsync sync -;
    vodsync sync --where state=missing --older-than 30d
    """
    filtered = bool(where or older_than or codec or unreadable)
    if bool(ids) + bool(file) + filtered != 1:
        raise typer.Exit(print_error("give ids, - for stdin, --file F, or filters (--where, --older-than ...)", Exit.USAGE))
    if filtered and reference_ids:
        raise typer.Exit(print_error("--reference-ids is about ids that you give; the filters choose media", Exit.USAGE))
    selection = MediaFilter(tuple(map(_condition, where or [])), _before(older_than), codec, unreadable)
    here = ready(source)
    given = selected(here.store, source, selection) if filtered else read_ids(ids or [], file)
    asked = _ask(here, source, given, lane=_LANES[priority], reference_ids=reference_ids, dry_run=dry_run)
    result: dict[str, Any] = {"requested": asked.requested, "not_an_id": asked.not_an_id}
    if asked.bad:
        print_error(f"not an id (1 to 64 of A-Z a-z 0-9 _ -): {_listed(asked.bad, asked.not_an_id)}", Exit.FAILED)
    # It is well where no medium passes a filter; nobody gives an empty list on purpose.
    failed = bool(asked.bad) or not (asked.requested or filtered)
    if not dry_run and asked.requested:
        wake_workers()
        if wait_:
            endings = wait(here, source, asked.awaited, timeout)
            result |= {outcome.value: endings.counts[outcome] for outcome in Outcome}
            result["failures"] = [{"id": key, "outcome": each.outcome.value, "error": each.error} for key, each in endings.failures]
            failed |= bool(endings.failed)
            for key, each in islice(endings.failures, _NAMED):
                print_error(f"{cell(key)}: {each.outcome.value}{f', {each.error}' if each.error else ''}", Exit.FAILED)
            if endings.failed > _NAMED:
                print_info(f"... and {endings.failed - _NAMED} more; --json names {len(endings.failures)}")
    if as_json:
        print_json(result)
    else:
        counts = {name: count for name, count in result.items() if isinstance(count, int)}
        print_info(
            ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()) + (" (dry run)" if dry_run else "")
        )
    if failed:
        raise typer.Exit(Exit.FAILED)


@dataclass(slots=True)
class _Asked:
    """What became of the ids that were given; `bad` are the first of those that are no ids."""

    requested: int = 0
    not_an_id: int = 0
    bad: list[str] = field(default_factory=list)
    awaited: Awaited = field(default_factory=Awaited)


def _ask(here: runtime.Runtime, source: str, given: Iterator[str], *, lane: int, reference_ids: bool, dry_run: bool) -> _Asked:
    asked = _Asked()
    with Bar("counted" if dry_run else "requested") as bar:
        while chunk := list(islice(given, _CHUNK)):
            good = list(dict.fromkeys(each for each in chunk if core_ids.is_valid_id(each)))
            bad = [each for each in chunk if not core_ids.is_valid_id(each)]
            asked.not_an_id += len(bad)
            asked.bad += bad[: _NAMED - len(asked.bad)]
            asked.requested += len(good)
            keys = [core_ids.reference_key(each) if reference_ids else each for each in good]
            if not dry_run:
                _request(here, source, keys, lane)
                asked.awaited.add(keys)
            bar.reach(asked.requested)
    return asked


def _condition(text: str) -> tuple[str, str | int | None]:
    name, equals, value = text.partition("=")
    if not equals or name not in FIELDS:
        raise typer.Exit(print_error(f"--where {cell(text)} is not FIELD=VALUE; the fields are {', '.join(FIELDS)}", Exit.USAGE))
    if name == "state" and value not in _STATES:
        raise typer.Exit(print_error(f"--where {cell(text)}: a state is one of {', '.join(_STATES)}", Exit.USAGE))
    if name in NUMBERS and value:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise typer.Exit(print_error(f"--where {cell(text)}: {name} is a number", Exit.USAGE))
        return name, int(value)
    # An empty text of VOD's is stored as NULL.
    return name, value or None


def _before(age: str | None) -> datetime | None:
    if age is None:
        return None
    units = {"d": "days", "h": "hours", "m": "minutes"}
    match = re.fullmatch(r"([0-9]{1,6})([dhm])", age)
    if match is None:
        raise typer.Exit(print_error(f"--older-than {cell(age)} is no age; write 30d, 12h or 90m", Exit.USAGE))
    try:
        return runtime.now() - timedelta(**{units[match[2]]: int(match[1])})
    except OverflowError:
        raise typer.Exit(print_error(f"--older-than {cell(age)} is before there were dates", Exit.USAGE)) from None


def _listed(words: list[str], count: int) -> str:
    shown = ", ".join(repr(cell(word[:80])) for word in words)
    return shown if count <= len(words) else f"{shown} and {count - len(words)} more"


def _request(here: runtime.Runtime, source: str, keys: list[str], priority: int) -> None:
    at = runtime.now()
    requests = [Request(source, key, "manual", priority) for key in keys]
    here.store.transact(lambda connection: SyncRequests(connection).request(requests, now=at))


def wake_workers() -> None:
    """Wake the workers, where a broker takes it; they find the work anyway."""
    from worker.queue.wakeups import wakeup_sender

    bell = wakeup_sender()
    bell.send()
    bell.close()
