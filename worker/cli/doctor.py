"""`vodsync doctor`: check each part of the installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import typer

from worker import runtime
from worker.cli.checks import Finding, Verdict
from worker.cli.checks.installation import check_imports
from worker.cli.checks.services import (
    check_broker,
    check_clock,
    check_database,
    check_disk,
    check_refused,
    check_schema,
    check_spool,
    check_workers,
)
from worker.cli.checks.sources import check_callback_settings, check_callbacks, check_queue, check_vod
from worker.cli.options import AsJson
from worker.cli.output import Exit, print_json
from worker.core.errors import VodsyncError, describe_error
from worker.logs import redactor
from worker.runtime import Runtime

#: Returns a Finding, or only a message if the part is fine.
Check = Callable[[], Finding | str]


def doctor(as_json: AsJson = False) -> None:
    """Check the installation and print one line for each part.

    Checks the installed code, database, schema, clock, workers, broker, spool, refused notifications and disk, and for each source
    callbacks, VOD, the queue and the callback settings. Makes one or two calls to VOD for each source, looks into its queue without
    receiving anything, and sends one message to itself through the broker. Exit 1 if a part is bad.
    """
    lines = []
    for part, finding in _findings(runtime.current()):
        message = redactor.text(finding.message)
        lines.append({"part": part, "verdict": finding.verdict.value, "says": message})
        if not as_json:
            typer.echo(f"{finding.verdict.value:6}  {part}: {message}")
    if as_json:
        print_json(lines)
    if any(line["verdict"] == Verdict.BAD.value for line in lines):
        raise typer.Exit(Exit.FAILED)


def _findings(installation: Runtime) -> Iterator[tuple[str, Finding]]:
    for part, check in _checks(installation):
        try:
            result = check()
        except VodsyncError as error:
            result = Finding(Verdict.BAD, str(error))
        except Exception as error:
            # One check that fails unexpectedly must not hide the others.
            result = Finding(Verdict.BAD, describe_error(error))
        yield part, Finding(Verdict.OK, result) if isinstance(result, str) else result


def _checks(installation: Runtime) -> Iterator[tuple[str, Check]]:
    yield "installation", check_imports
    yield "database", partial(check_database, installation)
    yield "schema", partial(check_schema, installation)
    yield "clock", partial(check_clock, installation)
    yield "work", partial(check_workers, installation)
    yield "broker", check_broker
    yield "spool", partial(check_spool, installation)
    yield "refused notifications", partial(check_refused, installation)
    yield "disk", check_disk
    for name, source in installation.sources.items():
        yield f"source {name}: callbacks", partial(check_callbacks, name, source)
        yield f"source {name}: VOD", partial(check_vod, installation, name, source)
        if source.smq_endpoint or source.smq_queue:
            yield f"source {name}: queue", partial(check_queue, installation, name, source)
        yield f"source {name}: callback settings at VOD", partial(check_callback_settings, source)
