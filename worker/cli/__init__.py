"""The command line: data on stdout, everything else on stderr, and an exit code that a script can rely on."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker import __version__
from worker.cli import (
    config,
    demo,
    doctor,
    emulate,
    failures,
    jobs,
    library,
    migrate,
    notify,
    renormalise,
    replay,
    roles,
    show,
    sync,
)
from worker.cli.output import Exit, print_error
from worker.core.errors import (
    ConfigurationError,
    StaleSchemaError,
    StoreUnavailableError,
    VodCredentialsError,
    VodsyncError,
    VodThrottledError,
    VodUnavailableError,
)

app = typer.Typer(
    name="vodsync",
    help="Keeps a relational database true to an ApsaraVideo VOD media library.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 unreachable dependency.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings file (default: vodsync.toml here, or VODSYNC_CONFIG).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if config is not None:
        # The processes that a verb starts read the same file.
        os.environ["VODSYNC_CONFIG"] = str(config.resolve())


app.command()(demo.demo)
app.command()(roles.up)
app.command()(roles.serve)
app.command()(roles.work)
app.add_typer(migrate.app, name="migrate")
app.command()(show.status)
app.command()(show.show)
app.command()(sync.sync)
app.command()(renormalise.renormalise)
app.command()(replay.replay)
app.add_typer(failures.app, name="failures")
app.command()(library.backfill)
app.command()(library.reconcile)
app.add_typer(jobs.app, name="jobs")
app.command()(doctor.doctor)
app.command()(notify.notify)
app.command()(emulate.emulate)
app.command(name="config")(config.config)


def main() -> None:
    """Entry point of `vodsync`."""
    # A terminal that knows no emoji shows a question mark, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (ConfigurationError, StaleSchemaError, VodCredentialsError) as error:
        sys.exit(print_error(error, Exit.CONFIGURATION))
    except StoreUnavailableError as error:
        sys.exit(print_error(f"{error}; check VODSYNC_DATABASE_URL", Exit.UNREACHABLE))
    except (VodUnavailableError, VodThrottledError) as error:
        sys.exit(print_error(error, Exit.UNREACHABLE))
    except VodsyncError as error:
        sys.exit(print_error(error, Exit.FAILED))
    except BrokenPipeError:
        # The reader of our output (head, less) had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
