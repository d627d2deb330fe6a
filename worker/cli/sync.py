"""`vodsync sync`: request a fetch of media."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from worker import runtime
from worker.cli.bar import Bar
from worker.cli.context import open_installation
from worker.cli.id_input import read_ids
from worker.cli.options import AsJson, DryRun, SourceName
from worker.cli.output import Exit, counters_text, print_error, print_info, print_json, printable
from worker.cli.progress import Awaited, Endings, wait
from worker.cli.wake_up import wake_workers
from worker.core.ids import is_valid_id, reference_key
from worker.settings import DEFAULT_SOURCE
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, OK
from worker.store.catalogue.media_filter import FIELDS, NUMBERS, MediaFilter, selected
from worker.store.inbox.outcomes import Outcome
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Request, SyncRequests

CHUNK_SIZE = 1000  # ids requested in one transaction
MAX_NAMED = 20  # invalid ids, or failures, that are printed
MAX_NAMED_LENGTH = 80  # printed characters of an invalid id

#: A longer --older-than would be before the year 1.
MAX_AGE = timedelta(days=700_000)

_STATES = (OK, MISSING, FORBIDDEN, DELETED)


class Priority(enum.StrEnum):
    LIVE = "live"
    MANUAL = "manual"
    BACKFILL = "backfill"


_PRIORITIES = {Priority.LIVE: LIVE, Priority.MANUAL: MANUAL, Priority.BACKFILL: BACKFILL}


def sync(
    ids: Annotated[list[str] | None, typer.Argument(help="Media ids, or - to read them from stdin.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F", help="Read ids from a file, separated by white space or commas.")
    ] = None,
    reference_ids: Annotated[bool, typer.Option("--reference-ids", help="The ids are your own ReferenceIds.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE", help=f"Stored media with this value (FIELD= for no value). Fields: {', '.join(FIELDS)}."
        ),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Stored media whose last fetch is longer ago: 30d, 12h or 90m.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(metavar="NAME", help="Stored media with a stream or play stream in this codec, such as hevc.")
    ] = None,
    unreadable: Annotated[bool, typer.Option("--unreadable", help="Stored media with fields that could not be read.")] = False,
    source: SourceName = DEFAULT_SOURCE,
    priority: Annotated[
        Priority,
        typer.Option(help="live: before everything else; manual: after live; backfill: in places that live and manual leave free."),
    ] = Priority.MANUAL,
    wait_: Annotated[bool, typer.Option("--wait", help="Wait until each is fetched; exit 1 if one could not be fetched.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="Longest wait, in seconds.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Request a fetch of media: the given ids, or the stored media that pass all filters.

    Examples: vodsync sync 0a1b2c3d4e5f60718293a4b5c6d7e8f9 --wait; vodsync sync --file ids.txt; sort ids.txt | vodsync sync -;
    vodsync sync --where state=missing --older-than 30d
    """
    has_filter = bool(where or older_than or codec or unreadable)
    if bool(ids) + bool(file) + has_filter != 1:
        raise typer.Exit(print_error("give ids, - for stdin, --file F, or filters (--where, --older-than ...)", Exit.USAGE))
    if has_filter and reference_ids:
        raise typer.Exit(print_error("--reference-ids needs ids; leave it out to select media with filters", Exit.USAGE))
    conditions, age = tuple(map(_condition, where or [])), _age(older_than)
    installation = open_installation(source)
    observed_before = None if age is None else installation.store.now() - age
    media_filter = MediaFilter(conditions, observed_before, codec, unreadable)
    keys = selected(installation.store, source, media_filter) if has_filter else read_ids(ids or [], file)
    request = _Requester(installation, source, _PRIORITIES[priority], reference_ids=reference_ids, dry_run=dry_run)
    requested = request.all_of(keys)
    result: dict[str, object] = {"requested": requested.count, "not_an_id": requested.invalid}
    if requested.invalid:
        print_error(f"not a valid id (1 to 64 of A-Z a-z 0-9 _ -): {_listed(requested)}", Exit.FAILED)
    # An empty list of ids is a mistake of the caller. Filters may match nothing.
    failed = bool(requested.invalid) or not (requested.count or has_filter)
    if not dry_run and requested.count:
        wake_workers()
        if wait_:
            endings = wait(installation, source, requested.awaited, timeout)
            failed |= bool(endings.failed)
            result |= _summary(endings)
            _print_failures(endings)
    if as_json:
        print_json(result)
    else:
        counters = [(name, count) for name, count in result.items() if isinstance(count, int)]
        print_info(counters_text(counters) + (" (dry run)" if dry_run else ""))
    if failed:
        raise typer.Exit(Exit.FAILED)


def _summary(endings: Endings) -> dict[str, object]:
    failures = [{"id": key, "outcome": ending.outcome.value, "error": ending.error} for key, ending in endings.failures]
    return {outcome.value: endings.counts[outcome] for outcome in Outcome} | {"failures": failures}


def _print_failures(endings: Endings) -> None:
    for key, ending in islice(endings.failures, MAX_NAMED):
        print_error(f"{printable(key)}: {ending.outcome.value}{f', {ending.error}' if ending.error else ''}", Exit.FAILED)
    if endings.failed > MAX_NAMED:
        print_info(f"... and {endings.failed - MAX_NAMED} more; --json lists {len(endings.failures)}")


@dataclass(slots=True)
class _Requested:
    """How many ids were requested, how many were invalid, and the first invalid ones (at most MAX_NAMED)."""

    count: int = 0
    invalid: int = 0
    invalid_ids: list[str] = field(default_factory=list)
    awaited: Awaited = field(default_factory=Awaited)


@dataclass(frozen=True, slots=True)
class _Requester:
    """Stores sync requests for one source, in chunks."""

    installation: runtime.Runtime
    source: str
    priority: int
    reference_ids: bool
    dry_run: bool

    def all_of(self, ids: Iterator[str]) -> _Requested:
        """Request a fetch of each valid id. A dry run only counts."""
        requested = _Requested()
        with Bar("counted" if self.dry_run else "requested") as bar:
            while chunk := list(islice(ids, CHUNK_SIZE)):
                valid = list(dict.fromkeys(key for key in chunk if is_valid_id(key)))
                invalid = [key for key in chunk if not is_valid_id(key)]
                requested.invalid += len(invalid)
                requested.invalid_ids += invalid[: MAX_NAMED - len(requested.invalid_ids)]
                requested.count += len(valid)
                keys = list(map(reference_key, valid)) if self.reference_ids else valid
                if not self.dry_run:
                    self._store(keys)
                    requested.awaited.add(keys)
                bar.reach(requested.count)
        return requested

    def _store(self, keys: list[str]) -> None:
        now = self.installation.store.now()
        requests = [Request(self.source, key, "manual", self.priority) for key in keys]
        self.installation.store.transact(lambda connection: SyncRequests(connection).request(requests, now=now))


def _condition(text: str) -> tuple[str, str | int | None]:
    """Return field and value of `FIELD=VALUE`. Exits with code 2 if it is malformed."""
    name, equals, value = text.partition("=")
    if not equals or name not in FIELDS:
        message = f"--where {printable(text)} is not FIELD=VALUE; the fields are {', '.join(FIELDS)}"
        raise typer.Exit(print_error(message, Exit.USAGE))
    if name == "state" and value not in _STATES:
        raise typer.Exit(print_error(f"--where {printable(text)}: state is one of {', '.join(_STATES)}", Exit.USAGE))
    if name in NUMBERS and value:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise typer.Exit(print_error(f"--where {printable(text)}: {name} takes a number", Exit.USAGE))
        return name, int(value)
    # An empty text from VOD is stored as NULL.
    return name, value or None


def _age(text: str | None) -> timedelta | None:
    """Return the duration 30d, 12h or 90m. Exits with code 2 if it is malformed."""
    if text is None:
        return None
    units = {"d": "days", "h": "hours", "m": "minutes"}
    match = re.fullmatch(r"([0-9]{1,6})([dhm])", text)
    if match is None:
        raise typer.Exit(print_error(f"--older-than {printable(text)} is not a valid age; write 30d, 12h or 90m", Exit.USAGE))
    age = timedelta(**{units[match[2]]: int(match[1])})
    if age > MAX_AGE:
        raise typer.Exit(print_error(f"--older-than {printable(text)} is before the year 1; write a shorter age", Exit.USAGE))
    return age


def _listed(requested: _Requested) -> str:
    ids = requested.invalid_ids
    listed = ", ".join(repr(printable(key[:MAX_NAMED_LENGTH])) for key in ids)
    return listed if requested.invalid <= len(ids) else f"{listed} and {requested.invalid - len(ids)} more"
