"""Verbs about the schema."""

from __future__ import annotations

from typing import Annotated

import typer

from worker import runtime
from worker.cli.output import Exit, print_info, print_json
from worker.store import schema

app = typer.Typer(help="Bring the database's schema to what this release needs.", invoke_without_command=True)


@app.callback()
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        up()


@app.command()
def up() -> None:
    """Apply what is pending (the default). Safe to repeat; two at once wait for each other."""
    here = runtime.current()
    steps = schema.pending(here.store)
    schema.upgrade(here.settings.database_url.get_secret_value(), schema=here.settings.database_schema)
    for step in steps:
        print_info(f"applied {step.revision}: {step.title}")
    print_info(f"the database has schema {schema.REVISION}")


@app.command()
def plan() -> None:
    """Show what `up` would apply; changes nothing."""
    steps = schema.pending(runtime.current().store)
    for step in steps:
        typer.echo(f"{step.revision}  {step.title}")
    if not steps:
        print_info(f"nothing to apply: the database has schema {schema.REVISION}")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the database's schema and the one needed; exit 1 where they differ."""
    store = runtime.current().store
    found, steps = schema.current(store), schema.pending(store)
    if as_json:
        print_json({"revision": found, "expected": schema.REVISION, "pending": [step.revision for step in steps]})
    else:
        typer.echo(f"schema {found or 'none'}, needed {schema.REVISION}, {len(steps)} to apply")
    if steps:
        raise typer.Exit(Exit.FAILED)
