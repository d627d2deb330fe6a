"""The verb that plays VOD for one notification."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import httpx
import msgspec
import typer

from worker import runtime
from worker.cli.context import callback_path, named
from worker.cli.output import Exit, cell, print_error, print_info
from worker.core import signature
from worker.core.ids import is_valid_id
from worker.settings import DEFAULT_SOURCE


def notify(
    media_id: Annotated[str, typer.Argument(help="The medium the notification speaks of.")],
    event: Annotated[str, typer.Option(help="Its EventType.")] = "VideoAnalysisComplete",
    to: Annotated[str | None, typer.Option(metavar="URL", help="Where to send it (default: the receiver on this machine).")] = None,
    source: Annotated[str, typer.Option(help="The source whose callback URL and key sign it.")] = DEFAULT_SOURCE,
) -> None:
    """Send one signed notification by hand, as VOD would. A receiver treats it like any other.

    Example: vodsync notify 0a1b2c3d4e5f60718293a4b5c6d7e8f9
    """
    if not is_valid_id(media_id):
        raise typer.Exit(print_error(f"{cell(media_id)} is not an id (1 to 64 of A-Z a-z 0-9 _ -)", Exit.USAGE))
    here = runtime.current()
    described = named(here, source)
    url = to or f"http://{here.settings.host}:{here.settings.port}{callback_path(source)}"
    at = datetime.now(UTC)
    headers = {"Content-Type": "application/json"}
    if described.callback_keys:
        described.require_callback(source)
        stamp = str(int(at.timestamp()))
        key = described.callback_keys[0].get_secret_value()
        headers |= {"X-VOD-TIMESTAMP": stamp, "X-VOD-SIGNATURE": signature.sign(described.callback_url or "", stamp, key)}
    body = {"EventType": event, "EventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "Status": "success", "VideoId": media_id}
    try:
        answer = httpx.post(url, content=msgspec.json.encode(body), headers=headers, timeout=5)
    except httpx.HTTPError as error:
        raise typer.Exit(
            print_error(f"{url} cannot be reached ({type(error).__name__}); is `vodsync serve` running?", Exit.UNREACHABLE)
        ) from None
    print_info(f"{url} answered {answer.status_code}")
    if answer.status_code != 200:
        raise typer.Exit(print_error(answer.text[:500], Exit.FAILED))
