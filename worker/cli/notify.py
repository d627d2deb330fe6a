"""`vodsync notify`: send one notification as VOD would."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import httpx
import msgspec
import typer

from worker import runtime
from worker.cli.context import callback_path, find_source
from worker.cli.output import Exit, print_error, print_info, printable
from worker.core import signature
from worker.core.ids import is_valid_id
from worker.settings import DEFAULT_SOURCE, Source
from worker.vod.http_client import open_http_client

RECEIVER_TIMEOUT = 5.0  # seconds
MAX_PRINTED_ANSWER = 500  # characters


def notify(
    media_id: Annotated[str, typer.Argument(help="The media id in the notification.")],
    event: Annotated[str, typer.Option(help="The EventType in the notification.")] = "VideoAnalysisComplete",
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="URL of the receiver (default: the receiver on this machine).")
    ] = None,
    source: Annotated[str, typer.Option(help="The source whose callback URL and key sign the notification.")] = DEFAULT_SOURCE,
) -> None:
    """Send one signed notification by hand, as VOD would.

    The receiver treats it like any other notification.

    Example: vodsync notify 0a1b2c3d4e5f60718293a4b5c6d7e8f9
    """
    if not is_valid_id(media_id):
        raise typer.Exit(print_error(f"{printable(media_id)} is not a valid id (1 to 64 of A-Z a-z 0-9 _ -)", Exit.USAGE))
    installation = runtime.current()
    settings = find_source(installation, source)
    url = to or f"http://{installation.settings.host}:{installation.settings.port}{callback_path(source)}"
    now = runtime.now()
    body = {"EventType": event, "EventTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "Status": "success", "VideoId": media_id}
    headers = {"Content-Type": "application/json", **_signature_headers(source, settings, now)}
    try:
        with open_http_client(timeout=RECEIVER_TIMEOUT) as client:
            response = client.post(url, content=msgspec.json.encode(body), headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise typer.Exit(
            print_error(f"cannot reach {url} ({type(error).__name__}); is `vodsync serve` running?", Exit.UNREACHABLE)
        ) from None
    print_info(f"{url} answered {response.status_code}")
    if response.status_code != 200:
        raise typer.Exit(print_error(response.text[:MAX_PRINTED_ANSWER], Exit.FAILED))


def _signature_headers(name: str, source: Source, now: datetime) -> dict[str, str]:
    """Return the headers of vod-protocol 1.3; none if the source has no key. Raises ConfigurationError without a callback URL."""
    if not source.callback_keys:
        return {}
    source.require_callback(name)
    timestamp = str(int(now.timestamp()))
    key = source.callback_keys[0].get_secret_value()
    return {
        "X-VOD-TIMESTAMP": timestamp,
        "X-VOD-SIGNATURE": signature.sign(source.callback_url or "", timestamp, key),
    }
