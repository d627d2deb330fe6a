"""`vodsync emulate`: the VOD emulator alone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def emulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 9000,
    access_key_id: Annotated[
        str, typer.Option(envvar="ALIBABA_CLOUD_ACCESS_KEY_ID", help="The access key that calls are signed with.")
    ] = "demoKeyId",
    access_key_secret: Annotated[
        str, typer.Option(envvar="ALIBABA_CLOUD_ACCESS_KEY_SECRET", show_default="demoSecret", help="Its secret.")
    ] = "demoSecret",  # noqa: S107 - a stand-in's secret, printed in the documentation
    callback_url: Annotated[
        str, typer.Option(help="Where notifications go, exactly as the receiver knows it; without it none are sent.")
    ] = "",
    callback_key: Annotated[str, typer.Option(help="Signs the notifications; without it they are unsigned.")] = "",
    media: Annotated[int, typer.Option(min=0, help="Media that are in the library from the start.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ids and the same media.")] = 1,
    qps: Annotated[int, typer.Option(min=0, help="BatchGetMediaInfos calls per second of the account; 0 = unlimited.")] = 20,
    video_info_qps: Annotated[int, typer.Option(min=0, help="The same for GetVideoInfo.")] = 100,
    life_seconds: Annotated[
        float, typer.Option(min=0, help="From the announcement of an upload to its last transcoded stream; 0 = all at once.")
    ] = 1.5,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each answer of the API.")] = 0.0,
    quirks: Annotated[bool, typer.Option("--quirks/--no-quirks", help="Answer with VOD's habits, or just as documented.")] = True,
) -> None:
    """Run a stand-in for ApsaraVideo VOD, for development without an account.

    It checks signatures, keeps the quota, answers BatchGetMediaInfos and GetVideoInfo, and sends signed notifications for the
    uploads that you start. The official SDK works with it: give its Config endpoint="127.0.0.1:9000", protocol="http".

    Example:

        vodsync emulate --media 500 --callback-url http://127.0.0.1:8080/callbacks --callback-key Demo1Key

        curl -X POST http://127.0.0.1:9000/emulator/uploads -d '{"count": 3}'

    GET /emulator lists what else can be controlled while it runs: faults, deletions, counters. Stop it with Ctrl-C.
    """
    from worker.emulator.config import EmulatorConfig
    from worker.emulator.server import serve

    config = EmulatorConfig(
        host=host,
        port=port,
        access_key_id=access_key_id,
        access_key_secret=access_key_secret,
        callback_url=callback_url,
        callback_key=callback_key,
        media=media,
        seed=seed,
        batch_qps=qps,
        video_info_qps=video_info_qps,
        life_seconds=life_seconds,
        latency=latency,
        quirks=quirks,
    )
    try:
        serve(config, on_listening=lambda url: print(f"listening on {url}", flush=True))
    except OSError as exc:
        print(f"cannot listen on {host}:{port}: {exc.strerror or exc}; choose another with --host and --port", file=sys.stderr)
        raise typer.Exit(1) from exc
