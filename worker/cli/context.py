"""What nearly every verb needs first: an installation whose database can be used, and the source that is meant."""

from __future__ import annotations

from worker import runtime
from worker.core.errors import ConfigurationError, StaleSchemaError
from worker.settings import DEFAULT_SOURCE, Source
from worker.store import schema
from worker.store.installation_health import NO_WORKER, installation_health


def ready(source: str | None = None) -> runtime.Runtime:
    """Raises SchemaStale, StoreUnavailable, and ConfigurationError where there is no such source."""
    here = runtime.current()
    if source is not None:
        named(here, source)
    try:
        schema.check(here.store)
    except StaleSchemaError as error:
        # Whoever forgot to set VODSYNC_DATABASE_URL sees it here.
        raise StaleSchemaError(f"{here.store.engine.url.render_as_string()}: {error}") from None
    return here


def named(here: runtime.Runtime, source: str) -> Source:
    """Raises ConfigurationError where there is no such source."""
    if source not in here.sources:
        raise ConfigurationError(f"no source is named {source}; choose with --source one of: {', '.join(here.sources)}")
    return here.sources[source]


def callback_path(source: str) -> str:
    """Where the receiver takes a source's notifications."""
    return "/callbacks" if source == DEFAULT_SOURCE else f"/callbacks/{source}"


def first_problem(here: runtime.Runtime) -> str | None:
    """Why nothing may move, in a sentence; None where nothing is known to be wrong."""
    with here.store.reading() as connection:
        seen = installation_health(connection, now=runtime.now(), sources=here.sources)
    if not any(map(seen.is_alive, seen.workers)):
        return NO_WORKER
    return seen.problems[0] if seen.problems else None
