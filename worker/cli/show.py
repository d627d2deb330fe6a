"""Verbs that look: at the state of the whole, at one medium."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from worker import runtime
from worker.cli.context import ready
from worker.cli.output import Exit, cell, print_error, print_info, print_json, stdout, table
from worker.core.errors import StoreUnavailableError
from worker.core.ids import reference_key
from worker.logs import redactor
from worker.runtime import Runtime
from worker.settings import DEFAULT_SOURCE
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import FORBIDDEN, OK
from worker.store.heartbeats import Heartbeat
from worker.store.installation_health import InstallationHealth, installation_health
from worker.store.spool import Spooled
from worker.sync.source_context import SourceContext
from worker.sync.verify import compare_with_vod

_AS_JSON = typer.Option("--json", help="Print JSON.")
_SOURCE = typer.Option(help="The account + region, as named in vodsync.toml.")


def status(
    as_json: Annotated[bool, _AS_JSON] = False,
    require_worker: Annotated[
        bool, typer.Option("--require-worker", help="Exit 1 unless a worker of this host was heard of in the last minute.")
    ] = False,
) -> None:
    """Show the state of the whole: backlog, media, dead letters, workers."""
    here = runtime.current()
    spooled = here.spool.waiting() if here.spool else Spooled(0, None)
    try:
        ready()
        with here.store.reading() as connection:
            seen = installation_health(connection, now=runtime.now(), sources=here.sources, feed=here.settings.changes == "on")
    except StoreUnavailableError as error:
        if as_json:
            down = {"state": "down", "error": str(error)}
            print_json({"database": down, "spool": asdict(spooled), "problems": [str(error), *_problems(spooled)]})
        for problem in _problems(spooled) if not as_json else ():
            print_info(f"look: {problem}")
        raise
    problems = [*_problems(spooled), *seen.problems]
    if as_json:
        print_json(seen.as_json() | {"spool": asdict(spooled), "problems": problems})
    else:
        stdout.print(_status_table(seen, spooled))
        for problem in problems:
            print_info(f"look: {problem}")
    if require_worker and not any(seen.is_alive(worker) and _is_here(worker) for worker in seen.workers):
        raise typer.Exit(print_error("no worker of this host was heard of in the last minute", Exit.FAILED))


def _problems(spooled: Spooled) -> list[str]:
    return [spooled.problem] if spooled.problem else []


def _is_here(worker: Heartbeat) -> bool:
    return worker.name.startswith(f"{socket.gethostname()}:")


def _status_table(seen: InstallationHealth, spooled: Spooled) -> Table:
    shown = table(None, "what", "how it is")
    for state, count in sorted(seen.media.items()):
        shown.add_row(f"media {cell(state)}", str(count))
    shown.add_row("notifications", str(seen.notifications))
    shown.add_row("sync requests due", str(seen.backlog.due))
    shown.add_row("sync requests waiting", str(seen.backlog.waiting))
    shown.add_row("oldest due", f"{seen.backlog.oldest_due_age:.1f} s")
    shown.add_row("dead letters", str(seen.backlog.dead))
    if spooled.count:
        shown.add_row("spooled on this machine", f"{spooled.count} since {spooled.since:%Y-%m-%d %H:%M:%S} UTC")
    if seen.changes:
        since = f" since {seen.changes.since:%Y-%m-%d %H:%M:%S} UTC" if seen.changes.since else ""
        shown.add_row("changes waiting", f"{seen.changes.count}{since}")
    for worker in seen.workers:
        heard = f"seen {(seen.seen_at - worker.seen_at).total_seconds():.0f} s ago"
        shown.add_row(f"worker {cell(worker.name)}", heard if seen.is_alive(worker) else f"silent, {heard}")
    if not seen.workers:
        shown.add_row("workers", "none; start one with: vodsync work")
    return shown


def show(
    media_id: Annotated[str, typer.Argument(help="VOD's id of the medium.")],
    source: Annotated[str, _SOURCE] = DEFAULT_SOURCE,
    live: Annotated[
        bool, typer.Option("--live", help="Ask VOD now, and show only where the stored rows differ; exit 1 where they do.")
    ] = False,
    as_json: Annotated[bool, _AS_JSON] = False,
) -> None:
    """Show one medium with its streams, its play streams and its history.

    With --live, as diff does it: VOD is asked by one BatchGetMediaInfos and one GetVideoInfo, and what it says is compared with the
    stored rows, streams by their key and URLs without signatures. Exit 0: no difference; 1: there is one, or VOD refused; 3: VOD
    does not let these keys ask; 4: VOD or the database could not be reached. No row of a medium is written; `vodsync sync MEDIA_ID`
    does that.
    """
    here = ready(source)
    if live:
        _show_live(here, source, media_id, as_json=as_json)
        return
    with here.store.reading() as connection:
        record = media_view.find(connection, source, media_id) or media_view.find(connection, source, reference_key(media_id))
    if record is None:
        raise typer.Exit(print_error(f"nothing is stored for {media_id}; fetch it with: vodsync sync {media_id}", Exit.FAILED))
    if as_json:
        print_json(record)
        return
    history = record.pop("notifications")
    lists = {name: record.pop(name) for name in ("video_streams", "audio_streams", "play_infos")}
    parts = {name.replace("_", " "): record.pop(name) for name in ("mezzanine", "video_info", "sync_request")}
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
    if history:
        names = [name for name in history[0] if any(row[name] is not None for row in history)]
        shown = table("notifications", *names)
        for row in history:
            shown.add_row(*(cell(row[name]) for name in names))
        stdout.print(shown)


def _show_live(here: Runtime, source: str, media_id: str, *, as_json: bool) -> None:
    here.require_credentials(source)
    from worker.vod.client import Client  # half a second, of which the other verbs need nothing

    found = compare_with_vod(here.store, SourceContext(source, Client(here.sources[source]), here.sync_settings(source)), media_id)
    if as_json:
        print_json(asdict(found) | {"error": found.error and redactor.text(found.error)})
    elif found.differences:
        shown = table(f"{media_id} of source {source}", "field", "stored", "at VOD")
        for difference in found.differences:
            shown.add_row(cell(difference.field), _side(difference.stored), _side(difference.at_vod))
        stdout.print(shown)
    elif found.stored is not None:
        stdout.print(f"no difference; the state is {found.stored}")
    if found.error is not None:
        print_info(f"what GetVideoInfo adds was not asked: {redactor.text(found.error)}")
    elif found.not_kept and not as_json:
        said = ", ".join(f"{name} {cell(value)}" for name, value in found.not_kept.items())
        print_info(f"VOD also says, and VODSYNC_VIDEO_INFO=off does not keep: {said}")
    if found.stored is None:
        answers: dict[str, str] = {OK: "VOD has it", FORBIDDEN: "VOD does not show it to this account"}
        knows = answers.get(found.at_vod, "VOD does not know it")
        next_step = f"; fetch it with: vodsync sync {media_id}" if found.at_vod == OK else ""
        raise typer.Exit(print_error(f"nothing is stored for {media_id}, and {knows}{next_step}", Exit.FAILED))
    if found.differences:
        raise typer.Exit(Exit.FAILED)


def _side(value: object) -> str:
    """A whole row by its fields; only one side has it."""
    if isinstance(value, dict):
        return cell(", ".join(f"{name} {inner}" for name, inner in value.items()))
    return cell(value)
