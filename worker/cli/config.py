"""`vodsync config`: print the effective settings."""

from __future__ import annotations

import typer
from pydantic import SecretStr

from worker import settings
from worker.cli.options import AsJson
from worker.cli.output import print_json
from worker.logs import MASK, without_password

#: Secrets of which only the password is masked.
_URLS = ("database_url", "broker_url")


def config(as_json: AsJson = False) -> None:
    """Print the effective value of every setting, with secrets masked.

    Settings come from flags, environment variables, .env and the settings file, in this order.
    """
    effective = settings.load()
    values: dict[str, object] = {
        settings.variable(field): _displayed(field, getattr(effective, field))
        for field in settings.Settings.model_fields
        if field != "sources"
    }
    for name, source in effective.sources.items():
        values |= {f"[sources.{name}] {field}": _displayed(field, getattr(source, field)) for field in settings.Source.model_fields}
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        typer.echo(f"{name}={'' if value is None else value}")


def _displayed(field: str, value: object) -> object:
    """Return the value as a JSON value, without secrets."""
    if isinstance(value, SecretStr):
        return without_password(value.get_secret_value()) if field in _URLS else MASK
    if isinstance(value, tuple):
        return ",".join(str(_displayed(field, item)) for item in value) or None
    return value if isinstance(value, int | float | bool | type(None)) else str(value)
