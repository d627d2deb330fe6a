"""`vodsync migrate`: apply, list or check migrations of the database schema."""

from __future__ import annotations

import typer

from worker import runtime
from worker.cli.options import AsJson
from worker.cli.output import Exit, print_info, print_json
from worker.store import schema

app = typer.Typer(help="Bring the database schema to the revision that this release needs.", invoke_without_command=True)


@app.callback()
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        up()


@app.command()
def up() -> None:
    """Apply pending migrations (the default). Safe to repeat; a second run at the same time waits for the first.

    A schema that is newer than this release needs is left as it is.
    """
    installation = runtime.current()
    migrations = schema.pending(installation.store)
    revision = schema.upgrade(installation.settings.database_url.get_secret_value(), schema=installation.settings.database_schema)
    for migration in migrations:
        print_info(f"applied {migration.revision}: {migration.title}")
    print_info(schema.describe_revision(revision))


@app.command()
def plan() -> None:
    """List the migrations that `up` would apply. Changes nothing."""
    store = runtime.current().store
    migrations = schema.pending(store)
    for migration in migrations:
        typer.echo(f"{migration.revision}  {migration.title}")
    if not migrations:
        print_info(f"nothing to apply: {schema.describe_revision(schema.check(store))}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the revision of the database and the revision that this release needs; exit 1 if they differ."""
    store = runtime.current().store
    revision, migrations = schema.current(store), schema.pending(store)
    if as_json:
        pending = [migration.revision for migration in migrations]
        print_json({"revision": revision, "expected": schema.REVISION, "pending": pending})
    else:
        typer.echo(f"schema revision {revision or 'none'}, needed {schema.REVISION}, {len(migrations)} to apply")
        if revision is not None and revision > schema.REVISION:
            print_info(schema.describe_revision(revision))
    if revision != schema.REVISION:
        raise typer.Exit(Exit.FAILED)
