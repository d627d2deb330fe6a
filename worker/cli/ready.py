"""What nearly every verb needs first: an installation whose database can be used, and the source that is meant."""

from __future__ import annotations

from worker import runtime
from worker.core.errors import ConfigurationError
from worker.store import schema


def ready(source: str | None = None) -> runtime.Runtime:
    """Raises SchemaStale, StoreUnavailable, and ConfigurationError where there is no such source."""
    here = runtime.current()
    if source is not None and source not in here.sources:
        raise ConfigurationError(f"no source is named {source}; there are: {', '.join(here.sources)}")
    schema.check(here.store)
    return here
