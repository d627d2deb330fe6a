"""Open the installation for a verb: settings, database schema, source."""

from __future__ import annotations

from worker import runtime
from worker.core.errors import ConfigurationError, StaleSchemaError
from worker.settings import DEFAULT_SOURCE, Source


def open_installation(source: str | None = None) -> runtime.Runtime:
    """Return the runtime of this process, with a database that has our schema.

    Raises ConfigurationError if `source` is not configured, StaleSchemaError, and StoreUnavailableError.
    """
    from worker.store import schema

    installation = runtime.current()
    if source is not None:
        find_source(installation, source)
    try:
        schema.check(installation.store)
    except StaleSchemaError as error:
        # The URL shows an operator that VODSYNC_DATABASE_URL is not set, or names another database.
        raise StaleSchemaError(f"{installation.store.engine.url.render_as_string()}: {error}") from None
    return installation


def find_source(installation: runtime.Runtime, name: str) -> Source:
    """Return a source by its name. Raises ConfigurationError if it is not configured."""
    if name not in installation.sources:
        raise ConfigurationError(f"source {name} is not configured; choose with --source one of: {', '.join(installation.sources)}")
    return installation.sources[name]


def callback_path(source: str) -> str:
    """Return the receiver's HTTP path for notifications of a source."""
    return "/callbacks" if source == DEFAULT_SOURCE else f"/callbacks/{source}"


def first_problem(installation: runtime.Runtime) -> str | None:
    """Return a sentence about why no work may be done at present; None if no problem is known."""
    from worker.store.installation_health import NO_WORKER, installation_health

    with installation.store.reading() as connection:
        health = installation_health(connection, now=installation.store.now(), sources=installation.sources)
    if not any(map(health.is_alive, health.workers)):
        return NO_WORKER
    return health.problems[0] if health.problems else None
