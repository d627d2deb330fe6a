"""What nearly every verb needs first: an installation whose database can be used, and the source that is meant."""

from __future__ import annotations

from worker import runtime
from worker.core.errors import ConfigurationError
from worker.store import schema
from worker.store.overview import overview


def ready(source: str | None = None) -> runtime.Runtime:
    """Raises SchemaStale, StoreUnavailable, and ConfigurationError where there is no such source."""
    here = runtime.current()
    if source is not None and source not in here.sources:
        raise ConfigurationError(f"no source is named {source}; there are: {', '.join(here.sources)}")
    schema.check(here.store)
    return here


def trouble(here: runtime.Runtime) -> str | None:
    """Why nothing may move, in a sentence; None where nothing is known to be wrong."""
    with here.store.reading() as connection:
        seen = overview(connection, now=runtime.now(), sources=here.sources)
    if not any(map(seen.alive, seen.workers)):
        return "no worker is alive; start one with: vodsync work"
    return seen.problems[0] if seen.problems else None
