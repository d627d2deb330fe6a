"""Verbs that ask: for the state of the whole, for one medium, for media to be fetched again."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from worker import runtime
from worker.cli.output import Exit, cell, complain, print_json, say, stderr, stdout, table
from worker.core import ids as core_ids
from worker.core.errors import ConfigurationError
from worker.settings import DEFAULT_SOURCE
from worker.store import records, schema
from worker.store.inbox import MANUAL, Inbox, Request
from worker.store.overview import Overview, overview
from worker.store.progress import Outcome, outcomes
from worker.store.workers import Heartbeat

_AS_JSON = typer.Option("--json", help="Print JSON.")
_SOURCE = typer.Option(help="The account + region, as named in vodsync.toml.")

#: Ids requested in one transaction.
_CHUNK = 1000


def status(
    as_json: Annotated[bool, _AS_JSON] = False,
    require_worker: Annotated[
        bool, typer.Option("--require-worker", help="Exit 1 unless a worker of this host was heard of in the last minute.")
    ] = False,
) -> None:
    """Show the state of the whole: backlog, media, dead letters, workers."""
    here = _ready()
    with here.store.reading() as connection:
        seen = overview(connection, now=runtime.now())
    if as_json:
        print_json(asdict(seen))
    else:
        stdout.print(_status_table(seen))
    if require_worker and not any(_alive_here(worker) for worker in seen.workers):
        raise typer.Exit(complain("no worker of this host was heard of in the last minute", Exit.FAILED))


def _alive_here(worker: Heartbeat) -> bool:
    return worker.name.startswith(f"{socket.gethostname()}:") and runtime.now() - worker.seen_at < timedelta(minutes=1)


def _status_table(seen: Overview) -> Table:
    shown = table(None, "what", "how many")
    for state, count in sorted(seen.media.items()):
        shown.add_row(f"media {cell(state)}", str(count))
    shown.add_row("notifications", str(seen.notifications))
    shown.add_row("sync requests due", str(seen.backlog.due))
    shown.add_row("sync requests waiting", str(seen.backlog.waiting))
    shown.add_row("oldest due", f"{seen.backlog.oldest_due_age:.1f} s")
    shown.add_row("dead letters", str(seen.backlog.dead))
    for worker in seen.workers:
        shown.add_row(f"worker {cell(worker.name)}", f"seen {(runtime.now() - worker.seen_at).total_seconds():.0f} s ago")
    if not seen.workers:
        shown.add_row("workers", "none; start one with: vodsync work")
    return shown


def show(
    media_id: Annotated[str, typer.Argument(help="VOD's id of the medium.")],
    source: Annotated[str, _SOURCE] = DEFAULT_SOURCE,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Show one medium with its streams, its play streams and its history."""
    here = _ready()
    with here.store.reading() as connection:
        record = records.find(connection, source, media_id)
    if record is None:
        raise typer.Exit(complain(f"nothing is stored for {media_id}; fetch it with: vodsync sync {media_id}", Exit.FAILED))
    if as_json:
        print_json(record)
        return
    lists = {name: record.pop(name) for name in ("video_streams", "audio_streams", "play_infos", "notifications")}
    parts = {"mezzanine": record.pop("mezzanine"), "sync request": record.pop("sync_request")}
    for title, values in {"media": record, **parts}.items():
        if values:
            shown = table(title, "field", "value")
            for name, value in values.items():
                if value not in (None, [], ""):
                    shown.add_row(name, cell(value))
            stdout.print(shown)
    for title, rows in lists.items():
        if rows:
            names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
            shown = table(title.replace("_", " "), "field", *(str(number) for number in range(1, len(rows) + 1)))
            for name in names:
                shown.add_row(name, *(cell(row[name]) for row in rows))
            stdout.print(shown)


def sync(
    ids: Annotated[list[str] | None, typer.Argument(help="Media ids, or - to read them from stdin.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F", help="Read ids from a file, separated by white space or commas.")
    ] = None,
    reference_ids: Annotated[bool, typer.Option("--reference-ids", help="The ids are your own ReferenceIds.")] = False,
    source: Annotated[str, _SOURCE] = DEFAULT_SOURCE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each was fetched; exit 1 where one could not be.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Request that media be fetched (again). A worker does it; live notifications go first.

    Examples: vodsync sync 0a1b2c3d4e5f60718293a4b5c6d7e8f9 --wait; vodsync sync --file ids.txt; sort ids.txt | vodsync sync -
    """
    if bool(ids) == bool(file):
        raise typer.Exit(complain("give ids, - for stdin, or --file F", Exit.USAGE))
    here = _ready()
    if source not in here.sources:
        raise ConfigurationError(f"no source is named {source}; there are: {', '.join(here.sources)}")
    requested, bad, keys = 0, [], []
    for chunk in _chunks(_read_ids(ids or [], file)):
        good = list(dict.fromkeys(each for each in chunk if core_ids.usable(each)))
        bad += [each for each in chunk if not core_ids.usable(each)]
        wanted = [core_ids.reference_key(each) if reference_ids else each for each in good]
        requested += len(wanted)
        keys += wanted if wait else []
        if not dry_run:
            _request(here, source, wanted)
    result: dict[str, Any] = {"requested": requested, "not_an_id": len(bad)}
    if bad:
        complain(f"{len(bad)} of the words are no ids (1 to 64 of A-Z a-z 0-9 _ -), the first: {cell(bad[0][:80])}", Exit.FAILED)
    failed = bool(bad)
    if not dry_run and requested:
        _ring()
        if wait:
            ended = _wait(here, source, keys)
            result |= {outcome.value: count for outcome, count in ended.items()}
            failed |= any(count for outcome, count in ended.items() if outcome is not Outcome.OK)
    if as_json:
        print_json(result)
    else:
        say(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in result.items()) + (" (dry run)" if dry_run else ""))
    if failed:
        raise typer.Exit(Exit.FAILED)


def _ready() -> runtime.Runtime:
    here = runtime.current()
    schema.check(here.store)
    return here


def _read_ids(words: list[str], file: Path | None) -> Iterator[str]:
    if words == ["-"] or file is not None:
        try:
            lines: Iterable[str] = sys.stdin if file is None else file.open(encoding="utf-8", errors="replace")
        except OSError as error:
            raise typer.Exit(complain(f"cannot read {file}: {error.strerror}", Exit.USAGE)) from None
    else:
        lines = words
    for line in lines:
        yield from line.replace(",", " ").split()


def _chunks(ids: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(ids, _CHUNK)):
        yield chunk


def _request(here: runtime.Runtime, source: str, keys: list[str]) -> None:
    at = runtime.now()
    requests = [Request(source, key, "manual", MANUAL) for key in keys]
    here.store.transact(lambda connection: Inbox(connection).request(requests, now=at))


def _ring() -> None:
    from worker.queue.doorbell import doorbell

    bell = doorbell()
    bell.ring()
    bell.close()


def _wait(here: runtime.Runtime, source: str, keys: list[str]) -> dict[Outcome, int]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    ended: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("fetched", total=len(keys))
        waiting = set(keys)
        while waiting:
            for chunk in _chunks(iter(sorted(waiting))):
                with here.store.reading() as connection:
                    for key, outcome in outcomes(connection, source, chunk).items():
                        waiting.discard(key)
                        ended[outcome] += 1
            progress.update(task, completed=len(keys) - len(waiting))
            if waiting:
                time.sleep(0.2)
    return ended
