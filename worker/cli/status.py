"""`vodsync status`: show the state of the installation."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker import runtime
from worker.cli.context import open_installation
from worker.cli.options import AsJson
from worker.cli.output import Exit, print_error, print_info, print_json
from worker.cli.table import Table
from worker.core.errors import StoreUnavailableError
from worker.store.installation_health import InstallationHealth, installation_health
from worker.store.refused import Refused
from worker.store.spool import Spooled

if TYPE_CHECKING:
    from worker.store.heartbeats import Heartbeat


def status(
    as_json: AsJson = False,
    require_worker: Annotated[
        bool, typer.Option("--require-worker", help="Exit 1 unless a worker of this host was seen in the last minute.")
    ] = False,
) -> None:
    """Show backlog, media, dead letters, workers and problems."""
    installation = runtime.current()
    spooled = installation.spool.waiting() if installation.spool else Spooled(0, None)
    refused = installation.refused.summary()
    local = {"spool": asdict(spooled), "refused": {"count": refused.count, "since": refused.since}}
    local_problems = [problem for problem in (spooled.problem, refused.problem) if problem]
    try:
        open_installation()
        with installation.store.reading() as connection:
            feed = installation.settings.changes == "on"
            store = installation.store
            health = installation_health(
                connection,
                now=store.now(),
                sources=installation.sources,
                feed=feed,
                clock_ahead=store.clock.machine_ahead,
            )
    except StoreUnavailableError as error:
        if as_json:
            database = {"state": "down", "error": str(error)}
            print_json({"database": database, **local, "problems": [str(error), *local_problems]})
        else:
            _print_problems(local_problems)
        raise
    problems = [*local_problems, *health.problems]
    if as_json:
        print_json(health.as_json() | local | {"problems": problems})
    else:
        _table(health, spooled, refused).print()
        _print_problems(problems)
    if require_worker and not any(health.is_alive(worker) and _is_on_this_host(worker) for worker in health.workers):
        message = "no worker of this host was seen in the last minute; start one with: vodsync work"
        raise typer.Exit(print_error(message, Exit.FAILED))


def _print_problems(problems: list[str]) -> None:
    for problem in problems:
        print_info(f"problem: {problem}")


def _is_on_this_host(worker: Heartbeat) -> bool:
    return worker.name.startswith(f"{socket.gethostname()}:")


def _table(health: InstallationHealth, spooled: Spooled, refused: Refused) -> Table:
    result = Table("item", "value")
    for state, count in sorted(health.media.items()):
        result.add(f"media {state}", count)
    result.add("notifications", health.notifications)
    result.add("sync requests due", health.backlog.due)
    result.add("sync requests waiting", health.backlog.waiting)
    result.add("oldest due", f"{health.backlog.oldest_due_age:.1f} s")
    result.add("dead letters", health.backlog.dead)
    if spooled.count:
        result.add("spooled on this machine", f"{spooled.count} since {spooled.since:%Y-%m-%d %H:%M:%S} UTC")
    if refused.count:
        result.add("refused on this machine", f"{refused.count} since {refused.since:%Y-%m-%d %H:%M:%S} UTC")
    if health.changes:
        since = f" since {health.changes.since:%Y-%m-%d %H:%M:%S} UTC" if health.changes.since else ""
        result.add("changes waiting", f"{health.changes.count}{since}")
    for worker in health.workers:
        seen = f"seen {(health.seen_at - worker.seen_at).total_seconds():.0f} s ago"
        result.add(f"worker {worker.name}", seen if health.is_alive(worker) else f"silent, {seen}")
    if not health.workers:
        result.add("workers", "none; start one with: vodsync work")
    return result
