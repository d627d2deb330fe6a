"""The verb that asks for media to be fetched (again)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker import runtime
from worker.cli.output import Exit, cell, complain, print_json, say, stderr
from worker.cli.ready import ready
from worker.core import ids as core_ids
from worker.settings import DEFAULT_SOURCE
from worker.store.inbox import MANUAL, Inbox, Request
from worker.store.overview import overview
from worker.store.progress import Ended, Outcome, outcomes

#: Ids requested in one transaction.
_CHUNK = 1000

#: Ids that did not arrive and are named.
_NAMED = 20

#: Seconds without any progress after which `--wait` says what the installation complains of.
_WONDER = 5.0


def sync(
    ids: Annotated[list[str] | None, typer.Argument(help="Media ids, or - to read them from stdin.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F", help="Read ids from a file, separated by white space or commas.")
    ] = None,
    reference_ids: Annotated[bool, typer.Option("--reference-ids", help="The ids are your own ReferenceIds.")] = False,
    source: Annotated[str, typer.Option(help="The account + region, as named in vodsync.toml.")] = DEFAULT_SOURCE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each was fetched; exit 1 where one could not be.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="Seconds to wait at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Request that media be fetched (again). A worker does it; live notifications go first.

    Examples: vodsync sync 0a1b2c3d4e5f60718293a4b5c6d7e8f9 --wait; vodsync sync --file ids.txt; sort ids.txt | vodsync sync -
    """
    if bool(ids) == bool(file):
        raise typer.Exit(complain("give ids, - for stdin, or --file F", Exit.USAGE))
    here = ready(source)
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
        complain(f"not an id (1 to 64 of A-Z a-z 0-9 _ -): {_listed(bad)}", Exit.FAILED)
    failed = bool(bad) or not requested
    if not dry_run and requested:
        ring()
        if wait:
            ended = _wait(here, source, keys, timeout)
            result |= {outcome.value: sum(each.outcome is outcome for each in ended.values()) for outcome in Outcome}
            lost = {key: each for key, each in ended.items() if each.outcome is not Outcome.OK}
            result["failures"] = [{"id": key, "outcome": each.outcome.value, "error": each.error} for key, each in lost.items()]
            failed |= bool(lost)
            for key, each in islice(lost.items(), _NAMED):
                complain(f"{cell(key)}: {each.outcome.value}{f', {each.error}' if each.error else ''}", Exit.FAILED)
            if len(lost) > _NAMED:
                say(f"... and {len(lost) - _NAMED} more; --json names all")
    if as_json:
        print_json(result)
    else:
        counts = {name: count for name, count in result.items() if isinstance(count, int)}
        say(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()) + (" (dry run)" if dry_run else ""))
    if failed:
        raise typer.Exit(Exit.FAILED)


def _listed(words: list[str]) -> str:
    shown = ", ".join(repr(cell(word[:80])) for word in words[:_NAMED])
    return shown if len(words) <= _NAMED else f"{shown} and {len(words) - _NAMED} more"


def _read_ids(words: list[str], file: Path | None) -> Iterator[str]:
    if words != ["-"] and file is None:
        yield from words
        return
    try:
        lines: Iterable[str] = sys.stdin if file is None else file.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise typer.Exit(complain(f"cannot read {file}: {error.strerror}", Exit.USAGE)) from None
    for line in lines:
        yield from line.replace(",", " ").split()


def _chunks(ids: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(ids, _CHUNK)):
        yield chunk


def _request(here: runtime.Runtime, source: str, keys: list[str]) -> None:
    at = runtime.now()
    requests = [Request(source, key, "manual", MANUAL) for key in keys]
    here.store.transact(lambda connection: Inbox(connection).request(requests, now=at))


def ring() -> None:
    """Wake the workers, where a broker takes it; they find the work anyway."""
    from worker.queue.doorbell import doorbell

    bell = doorbell()
    bell.ring()
    bell.close()


def _wait(here: runtime.Runtime, source: str, keys: list[str], timeout: float | None) -> dict[str, Ended]:
    """How each of `keys` ended; those that are still due after `timeout` seconds are `WAITING`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    ended: dict[str, Ended] = {}
    deadline = None if timeout is None else time.monotonic() + timeout
    moved_at, wondered = time.monotonic(), False
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("fetched", total=len(keys))
        waiting = set(keys)
        while waiting and (deadline is None or time.monotonic() < deadline):
            for chunk in _chunks(iter(sorted(waiting))):
                with here.store.reading() as connection:
                    found = outcomes(connection, source, chunk)
                if found:
                    ended |= found
                    waiting -= found.keys()
                    moved_at = time.monotonic()
            progress.update(task, completed=len(keys) - len(waiting))
            if not wondered and time.monotonic() - moved_at > _WONDER:
                wondered = True
                _wonder(here, len(waiting))
            if waiting:
                time.sleep(0.2)
    return ended | dict.fromkeys(waiting, Ended(Outcome.WAITING))


def _wonder(here: runtime.Runtime, waiting: int) -> None:
    with here.store.reading() as connection:
        seen = overview(connection, now=runtime.now())
    if not any(map(seen.alive, seen.workers)):
        say("vodsync: no worker is alive; start one with: vodsync work")
    elif seen.problems:
        say(f"vodsync: {seen.problems[0]}")
    else:
        say(f"vodsync: still waiting for {waiting}; Ctrl-C stops waiting, the requests stay")
