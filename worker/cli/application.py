"""Define the command line: its verbs, its common options, and the exit code of each error."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from worker import __version__
from worker.cli.output import Exit, print_error
from worker.core.errors import (
    ConfigurationError,
    RowRefusedError,
    StaleSchemaError,
    StoreUnavailableError,
    UnsuitableDatabaseError,
    VodCredentialsError,
    VodsyncError,
    VodThrottledError,
    VodUnavailableError,
    is_shortage,
)

#: Every verb and its line in `vodsync --help`. The module `worker.cli.VERB` has a function of that name, or a Typer application
#: called `app` if the verb has subcommands. The line repeats the first line of its docstring, so that help imports no verb.
VERBS = {
    "demo": "Show vodsync at work: an emulated VOD, a receiver and a worker on a temporary database.",
    "up": "Run everything on this machine: migrate, then receiver, worker and beat.",
    "serve": "Run the receiver, the HTTP endpoint that VOD calls.",
    "work": "Run a worker, which fetches due media from VOD and stores them.",
    "migrate": "Bring the database schema to the revision that this release needs.",
    "status": "Show backlog, media, dead letters, workers and problems.",
    "show": "Show one media asset with its streams and its history.",
    "sync": "Request a fetch of media: the given ids, or the stored media that pass all filters.",
    "renormalise": "Derive all typed columns again from VOD's stored answers, without calling VOD.",
    "replay": "Process recorded notifications again.",
    "failures": "List, show, retry or drop dead letters and refused notifications: what vodsync gave up on.",
    "backfill": "List the VOD library and fetch what is not stored or has changed.",
    "reconcile": "Compare the VOD library with the database and repair the differences.",
    "jobs": "List, pause, resume or cancel long runs such as backfill and reconcile.",
    "doctor": "Check the installation and print one line for each part.",
    "notify": "Send one signed notification by hand, as VOD would.",
    "emulate": "Run a VOD emulator, for development without an account.",
    "config": "Print the effective value of every setting, with secrets masked.",
}


class LazyVerbs(TyperGroup):
    """A group that imports the module of a verb only if that verb is called.

    Annotated with Any because Typer takes these types from its own copy of click, which is private, or from click.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins without options: enough for the list of verbs and for "Did you mean ...?".
        self.commands = {name: TyperCommand(name, help=line) for name, line in VERBS.items()}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the verb, imported; None if there is no verb of that name."""
        return load_verb(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of verbs into the help text without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def load_verb(name: str) -> Any:
    """Import the module of one verb and return its click command."""
    module = importlib.import_module(f"worker.cli.{name}")
    group = typer.Typer(rich_markup_mode=None)
    # With a callback Typer always builds a group, also around a single command.
    group.callback()(lambda: None)
    if hasattr(module, "app"):
        group.add_typer(module.app, name=name)
    else:
        group.command(name)(getattr(module, name))
    return typer.main.get_group(group).commands[name]


app = typer.Typer(
    name="vodsync",
    cls=LazyVerbs,
    help="Keep a relational database in step with an ApsaraVideo VOD media library.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 unreachable dependency.",
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common_options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Settings file (default: VODSYNC_CONFIG, or vodsync.toml in this directory)."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if config is not None:
        # In the environment, so that the processes that a verb starts read the same file.
        os.environ["VODSYNC_CONFIG"] = str(config.resolve())


def run() -> None:
    """Run the verb in sys.argv and exit. A foreseen error becomes one sentence on stderr and its exit code."""
    try:
        app()
    except (ConfigurationError, StaleSchemaError, UnsuitableDatabaseError, VodCredentialsError) as error:
        sys.exit(print_error(error, Exit.CONFIGURATION))
    except RowRefusedError as error:
        sys.exit(print_error(error, Exit.FAILED))
    except (StoreUnavailableError, VodUnavailableError, VodThrottledError) as error:
        sys.exit(print_error(error, Exit.UNREACHABLE))
    except (VodsyncError, MemoryError, OSError) as error:
        sys.exit(print_error(error, Exit.FAILED))
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        sys.exit(print_error(error, Exit.FAILED))
