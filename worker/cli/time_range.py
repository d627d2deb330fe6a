"""Read `--since` and `--until`."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from worker.cli.output import Exit, print_error, printable


def parse_range(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return both times, in UTC. Exits with code 2 if one is not a valid time, or if `since` is later than `until`."""
    begin, end = parse_time(since, "--since"), parse_time(until, "--until")
    if begin and end and begin > end:
        raise typer.Exit(print_error("--since is later than --until", Exit.USAGE))
    return begin, end


def parse_time(text: str | None, option: str) -> datetime | None:
    """Return the time in an ISO 8601 text, in UTC. A text without an offset is UTC. Exits with code 2 if it is not a valid time."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = f"{option} {printable(text)} is not a valid time; write 2026-01-31 or 2026-01-31T12:00:00Z"
        raise typer.Exit(print_error(message, Exit.USAGE)) from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
