"""`vodsync emulate`: run the VOD emulator."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worker.cli.output import Exit, print_error
from worker.emulator.server.config import EmulatorConfig

DEMO_SECRET = "demoSecret"  # noqa: S105 - accepted by the emulator only, and printed in its documentation


def _print_started(url: str, config: EmulatorConfig) -> None:
    """Print the URL on stdout, for programs that wait for it, and the matching settings on stderr at a terminal."""
    print(f"listening on {url}", flush=True)
    if not sys.stderr.isatty():
        return
    settings = {
        "VODSYNC_ENDPOINT": url,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": config.access_key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": config.access_key_secret if config.access_key_secret == DEMO_SECRET else "(as given)",
        "VODSYNC_CALLBACK_KEYS": "(as given with --callback-key)" if config.callback_key else "(none: notifications are unsigned)",
        "VODSYNC_CALLBACK_URL": config.callback_url or "(none: no notifications are sent; see --callback-url)",
    }
    if config.smq_queue:
        settings |= {"VODSYNC_SMQ_ENDPOINT": url, "VODSYNC_SMQ_QUEUE": config.smq_queue}
    print("settings for a vodsync that uses it:", file=sys.stderr)
    for name, value in settings.items():
        print(f"  {name}={value}", file=sys.stderr)
    print(f"""upload three media: curl -X POST {url}/emulator/uploads -d '{{"count": 3}}'""", file=sys.stderr, flush=True)


def emulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 selects a free one.")] = 9000,
    access_key_id: Annotated[
        str, typer.Option(envvar="ALIBABA_CLOUD_ACCESS_KEY_ID", help="The access key with which calls must be signed.")
    ] = "demoKeyId",
    access_key_secret: Annotated[
        str, typer.Option(envvar="ALIBABA_CLOUD_ACCESS_KEY_SECRET", show_default="demoSecret", help="Its secret.")
    ] = DEMO_SECRET,
    callback_url: Annotated[
        str,
        typer.Option(help="The receiver's URL, exactly as it is in the receiver's settings; without it no notifications are sent."),
    ] = "",
    callback_key: Annotated[str, typer.Option(help="The key that signs notifications; without it they are unsigned.")] = "",
    smq_queue: Annotated[str, typer.Option(help="Provide a queue with this name and also write the notifications to it.")] = "",
    smq_visibility: Annotated[
        float, typer.Option(min=0.1, help="Seconds until a received message that was not deleted is delivered again.")
    ] = 30.0,
    media: Annotated[int, typer.Option(min=0, help="Number of media in the library at the start.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed produces the same ids and the same media.")] = 1,
    qps: Annotated[int, typer.Option(min=0, help="BatchGetMediaInfos calls per second of the account; 0: unlimited.")] = 20,
    video_info_qps: Annotated[int, typer.Option(min=0, help="The same for GetVideoInfo.")] = 100,
    search_qps: Annotated[int, typer.Option(min=0, help="The same for SearchMedia.")] = 50,
    scroll_seconds: Annotated[float, typer.Option(min=0, help="Seconds until a ScrollToken of SearchMedia expires.")] = 600.0,
    life_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds from the start of an upload to its last transcoded stream; 0: all at once.")
    ] = 1.5,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before each answer of the API.")] = 0.0,
    quirks: Annotated[
        bool, typer.Option("--quirks/--no-quirks", help="Answer with the observed quirks of VOD, or exactly as documented.")
    ] = True,
) -> None:
    """Run a VOD emulator, for development without an account.

    It checks signatures, enforces rate limits, answers BatchGetMediaInfos, GetVideoInfo and SearchMedia, and sends signed
    notifications for the uploads that you start. The official SDK works with it: set endpoint="127.0.0.1:9000" and protocol="http"
    in its Config.

    Example:

        vodsync emulate --media 500 --callback-url http://127.0.0.1:8080/callbacks --callback-key Demo1Key

        curl -X POST http://127.0.0.1:9000/emulator/uploads -d '{"count": 3}'

    GET /emulator lists the other controls: faults, deletions, counters. Stop the emulator with Ctrl-C.

    Uploads, changes and deletions with "notify": false send no notification. The fault lost_notifications drops a share of all
    events:

        curl -X POST http://127.0.0.1:9000/emulator/media/MEDIA_ID/delete -d '{"notify": false}'

        curl -X PUT http://127.0.0.1:9000/emulator/faults -d '{"lost_notifications": {"probability": 0.1}}'
    """
    from worker.emulator.server.server import serve

    config = EmulatorConfig(
        host=host,
        port=port,
        access_key_id=access_key_id,
        access_key_secret=access_key_secret,
        callback_url=callback_url,
        callback_key=callback_key,
        smq_queue=smq_queue,
        smq_visibility=smq_visibility,
        media=media,
        seed=seed,
        batch_qps=qps,
        video_info_qps=video_info_qps,
        search_qps=search_qps,
        scroll_seconds=scroll_seconds,
        life_seconds=life_seconds,
        latency=latency,
        quirks=quirks,
    )
    try:
        serve(config, on_listening=lambda url: _print_started(url, config))
    except OSError as exc:
        message = f"cannot listen on {host}:{port}: {exc.strerror or exc}; choose another address with --host and --port"
        raise typer.Exit(print_error(message, Exit.FAILED)) from exc
