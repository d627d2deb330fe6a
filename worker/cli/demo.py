"""`vodsync demo`: run an emulated VOD, a receiver and a worker, and print what arrives in the database."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import httpx
import typer

from worker.cli.bar import Bar
from worker.cli.demo_report import Library, print_report
from worker.cli.output import Exit, print_error, print_info
from worker.cli.processes import isolated_environment, vodsync_command
from worker.store import Store, schema
from worker.vod.http_client import open_http_client

TIMEOUT = 60.0  # seconds for the receiver to start, and again for the media to arrive
STOP_TIMEOUT = 10.0  # seconds for a process to stop
EMULATOR_TIMEOUT = 10.0  # seconds
READY_INTERVAL = 0.05  # seconds between two requests to /readyz
POLL_INTERVAL = 0.2  # seconds between two looks at the media

_CREDENTIALS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "demoKeyId", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "demoSecret"}


def demo(media: Annotated[int, typer.Option("--media", min=1, help="Number of media to upload.")] = 200) -> None:
    """Show vodsync at work: an emulated VOD, a receiver and a worker on a temporary database.

    The emulator uploads media and sends signed notifications over HTTP. The stored rows are then compared with the uploaded media.
    Exit 0 only if every media asset arrived with all its streams.
    """
    folder = Path(tempfile.mkdtemp(prefix="vodsync-demo-"))
    database = f"sqlite:///{folder / 'demo.db'}"
    port, key = _free_port(), secrets.token_urlsafe(12)
    callback = f"http://127.0.0.1:{port}/callbacks"
    with ExitStack() as stack:
        arguments = ["emulate", "--port", "0", "--callback-url", callback, "--callback-key", key]
        emulator = stack.enter_context(_process("emulator", arguments, folder, isolated_environment(**_CREDENTIALS)))
        endpoint = _endpoint(emulator, folder)
        environment = isolated_environment(
            **_CREDENTIALS,
            VODSYNC_DATABASE_URL=database,
            VODSYNC_ENDPOINT=endpoint,
            VODSYNC_CALLBACK_URL=callback,
            VODSYNC_CALLBACK_KEYS=key,
            VODSYNC_PORT=str(port),
        )
        schema.upgrade(database)
        store = Store.open(database)
        stack.callback(store.close)
        api = stack.enter_context(open_http_client(base_url=endpoint, timeout=EMULATOR_TIMEOUT))
        processes = [
            stack.enter_context(_process("worker", ["work", "--beat"], folder, environment)),
            stack.enter_context(_process("receiver", ["serve"], folder, environment)),
            emulator,
        ]
        _wait_until_ready(port, folder)
        print_info(f"emulated VOD at {endpoint}, receiver at {callback}, database {folder / 'demo.db'}")
        media_ids = api.post("/emulator/uploads", json={"count": media}).raise_for_status().json()["media_ids"]
        incomplete = _wait_for_media(Library(store, api), media_ids)
        print_report(store, api)
        for process in processes:
            process.terminate()
    if incomplete:
        print_info(
            f"{len(incomplete)} of {media} media did not arrive complete, for example {incomplete[0]}; the logs are in {folder}"
        )
        raise typer.Exit(Exit.FAILED)
    print_info(f"all {media} media arrived with all their streams; try next:")
    prefix = f"VODSYNC_DATABASE_URL={database} {_command()}"
    typer.echo(f"  {prefix} show {media_ids[0]}\n  {prefix} status\n  {_command()} emulate --help")
    print_info(f"database and logs remain in {folder}; remove them with: rm -r {folder}")


def _command() -> str:
    """Return the command that runs vodsync from the working directory."""
    script = Path(sys.argv[0])
    return os.path.relpath(script) if script.name == "vodsync" else "python -m worker"


@contextmanager
def _process(name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run one role with its log in `folder`, and stop it at the end of the `with` block."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            vodsync_command(*arguments), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _endpoint(emulator: subprocess.Popen[str], folder: Path) -> str:
    """Return the URL that the emulator prints when it is ready."""
    line = emulator.stdout.readline() if emulator.stdout else ""
    if "http://" not in line:
        raise typer.Exit(print_error(f"the emulator did not start; see {folder / 'emulator.log'}", Exit.FAILED))
    return line.split()[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, folder: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with open_http_client(timeout=1) as client, suppress(httpx.HTTPError):
            if client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        time.sleep(READY_INTERVAL)
    raise typer.Exit(print_error(f"the receiver did not start; see {folder / 'receiver.log'}", Exit.FAILED))


def _wait_for_media(library: Library, media_ids: list[str]) -> list[str]:
    """Show progress until all media are stored as uploaded. Return the ids that are not, after TIMEOUT."""
    deadline = time.monotonic() + TIMEOUT
    incomplete = media_ids
    with Bar("media in the database", total=len(media_ids)) as bar:
        while incomplete and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            bar.reach(library.stored_count())
            if library.is_idle():
                incomplete = library.incomplete(media_ids)
    return incomplete
