"""The verb that shows everything at once: an emulated VOD, a receiver and a worker, and what stands in the database afterwards."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import func, select

from worker.cli.output import Exit, cell, print_error, print_info, stderr, stdout, table
from worker.cli.roles import module_environment
from worker.store import Store, schema, tables

#: Seconds until the demo gives up.
_PATIENCE = 60.0

_KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "demoKeyId", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "demoSecret"}

#: Rows of the closing table.
_SAMPLE = 8


def demo(media: Annotated[int, typer.Option("--media", min=1, help="How many media to upload.")] = 200) -> None:
    """See it work: an emulated VOD, a receiver and a worker as real processes on a temporary SQLite database.

    Uploads media, delivers VOD's signed notifications over HTTP, and compares what arrived in the database with what was uploaded.
    Exit 0 only if every medium arrived with all its streams.
    """
    folder = Path(tempfile.mkdtemp(prefix="vodsync-demo-"))
    database = f"sqlite:///{folder / 'demo.db'}"
    port, key = _free_port(), secrets.token_urlsafe(12)
    callback = f"http://127.0.0.1:{port}/callbacks"
    with ExitStack() as stack:
        arguments = ["emulate", "--port", "0", "--callback-url", callback, "--callback-key", key]
        emulator = stack.enter_context(_process("emulator", arguments, folder, module_environment(**_KEYS)))
        endpoint = _listening(emulator)
        environment = module_environment(
            **_KEYS,
            VODSYNC_DATABASE_URL=database,
            VODSYNC_ENDPOINT=endpoint,
            VODSYNC_CALLBACK_URL=callback,
            VODSYNC_CALLBACK_KEYS=key,
            VODSYNC_PORT=str(port),
        )
        schema.upgrade(database)
        store = Store.open(database)
        stack.callback(store.close)
        api = stack.enter_context(httpx.Client(base_url=endpoint, timeout=10))
        running = [
            stack.enter_context(_process("worker", ["work", "--beat"], folder, environment)),
            stack.enter_context(_process("receiver", ["serve"], folder, environment)),
            emulator,
        ]
        _wait_until_ready(port)
        print_info(f"emulated VOD at {endpoint}, receiver at {callback}, database {folder / 'demo.db'}")
        media_ids = api.post("/emulator/uploads", json={"count": media}).raise_for_status().json()["media_ids"]
        different = _watch(store, api, media_ids)
        calls = api.get("/emulator/calls").json()["BatchGetMediaInfos"]
        deliveries = api.get("/emulator/deliveries").json()
        _report(store, deliveries, calls)
        for process in running:
            process.terminate()
    if different:
        print_info(f"{len(different)} of {media} media did not arrive whole, the first: {different[0]}; the logs stand in {folder}")
        raise typer.Exit(Exit.FAILED)
    print_info(f"all {media} media arrived with all their streams; try next:")
    prefix = f"VODSYNC_DATABASE_URL={database} {_command()}"
    typer.echo(f"  {prefix} show {media_ids[0]}\n  {prefix} status\n  {_command()} emulate --help")
    print_info(f"database and logs stay in {folder}; remove them with: rm -r {folder}")


def _command() -> str:
    """How the reader can call us again from where they stand."""
    script = Path(sys.argv[0])
    return os.path.relpath(script) if script.name == "vodsync" else "python -m worker"


@contextmanager
def _process(name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """One of our roles in `folder`, which keeps its log; stopped in order at the end."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "worker", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listening(emulator: subprocess.Popen[str]) -> str:
    line = emulator.stdout.readline() if emulator.stdout else ""
    if "http://" not in line:
        raise typer.Exit(print_error("the emulator did not start", Exit.FAILED))
    return line.split()[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise typer.Exit(print_error("the receiver did not start", Exit.FAILED))


def _watch(store: Store, api: httpx.Client, media_ids: list[str]) -> list[str]:
    """Show media arriving until all are as the emulator has them; gives the ids of those that are not in the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + _PATIENCE
    different = media_ids
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        shown = progress.add_task("media in the database", total=len(media_ids))
        while different and time.monotonic() < deadline:
            time.sleep(0.2)
            pending = api.get("/emulator/deliveries").json()["pending"]
            with store.reading() as connection:
                progress.update(shown, completed=connection.execute(_COMPLETE).scalar_one())
                owing = connection.execute(select(func.count()).where(tables.sync_request.c.waits == 0)).scalar_one()
            if not pending and not owing:
                different = _different(store, api, media_ids)
    return different


def _different(store: Store, api: httpx.Client, media_ids: list[str]) -> list[str]:
    elements = api.post("/emulator/record", json=media_ids).raise_for_status().json()["media"]
    with store.reading() as connection:
        stored = {name: _keys(connection, child, key) for name, (child, key) in _CHILDREN.items()}
        titles = {row.media_id: row.title for row in connection.execute(select(tables.media.c.media_id, tables.media.c.title))}
    return [media_id for media_id in media_ids if not _arrived(media_id, elements[media_id], titles, stored)]


def _arrived(media_id: str, element: dict[str, Any], titles: dict[str, str], stored: dict[str, dict[str, set[str]]]) -> bool:
    source = element.get("MezzanineInfo") or {}
    sent = {
        "audio": {str(stream["Index"]) for stream in source.get("AudioStreamList") or []},
        "video": {str(stream["Index"]) for stream in source.get("VideoStreamList") or []},
        "play": {info["JobId"] for info in element.get("PlayInfoList") or []},
    }
    same_title = titles.get(media_id) == ((element["MediaInfo"].get("Title") or "").strip() or None)
    return same_title and all(stored[name].get(media_id, set()) == keys for name, keys in sent.items())


_CHILDREN = {
    "audio": (tables.audio_stream, "stream_index"),
    "video": (tables.video_stream, "stream_index"),
    "play": (tables.play_info, "job_id"),
}

_COMPLETE = select(func.count()).where(tables.media.c.state == "ok", tables.media.c.status == "Normal")


def _keys(connection: Any, child: Any, key: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for media_id, value in connection.execute(select(child.c.media_id, child.c[key])):
        found.setdefault(media_id, set()).add(value)
    return found


def _report(store: Store, deliveries: dict[str, Any], calls: dict[str, Any]) -> None:
    shown = table("A few of the media, read back from the database", "title", "codec", "size", "fps", "seconds", "audio", "play")
    for column in shown.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    # One long title must not take the room of everything else.
    shown.columns[0].max_width = 16
    with store.reading() as connection:
        for row in connection.execute(_SAMPLE_ROWS):
            shown.add_row(*(cell(value) for value in row))
        counts = [
            connection.execute(select(func.count()).select_from(each)).scalar_one()
            for each in (tables.media, tables.video_stream, tables.audio_stream, tables.play_info)
        ]
    stdout.print(shown)
    stdout.print(f"{counts[0]} media, {counts[1]} video streams, {counts[2]} audio streams, {counts[3]} play streams")
    stdout.print(
        f"{deliveries['delivered']} notifications delivered, {calls['calls']} calls to BatchGetMediaInfos "
        f"for {calls['media_ids']} look-ups, at most {calls['largest_batch']} a call"
    )


def _count(child: Any) -> Any:
    same = (child.c.source == tables.media.c.source) & (child.c.media_id == tables.media.c.media_id)
    return select(func.count()).select_from(child).where(same).scalar_subquery()


_SAMPLE_ROWS = (
    select(
        tables.media.c.title,
        tables.video_stream.c.codec_name,
        tables.video_stream.c.width.concat("x").concat(tables.video_stream.c.height),
        tables.video_stream.c.fps,
        tables.mezzanine.c.duration,
        _count(tables.audio_stream),
        _count(tables.play_info),
    )
    .join(
        tables.mezzanine,
        (tables.mezzanine.c.source == tables.media.c.source) & (tables.mezzanine.c.media_id == tables.media.c.media_id),
    )
    .outerjoin(
        tables.video_stream,
        (tables.video_stream.c.source == tables.media.c.source) & (tables.video_stream.c.media_id == tables.media.c.media_id),
    )
    .order_by(tables.media.c.created_at, tables.media.c.media_id)
    .limit(_SAMPLE)
)
