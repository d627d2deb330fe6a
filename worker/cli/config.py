"""The verb that shows the effective settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import SecretStr

from worker import settings
from worker.cli.output import print_json
from worker.logs import MASK, without_password


def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print every setting with its effective value; secrets are masked."""
    chosen = settings.load()
    values: dict[str, Any] = {
        settings.variable(field): _show(field, getattr(chosen, field))
        for field in settings.Settings.model_fields
        if field != "sources"
    }
    for name, source in chosen.sources.items():
        values |= {f"[sources.{name}] {field}": _show(field, getattr(source, field)) for field in settings.Source.model_fields}
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        typer.echo(f"{name}={'' if value is None else value}")


def _show(field: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        # A URL is shown without its password; any other secret not at all.
        return without_password(value.get_secret_value()) if field in ("database_url", "broker_url") else MASK
    if isinstance(value, tuple):
        return ",".join(_show(field, each) for each in value) or None
    return value if isinstance(value, int | float | bool | type(None)) else str(value)
