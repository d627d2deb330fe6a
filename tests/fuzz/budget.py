"""Spend less of the time on properties whose examples are expensive."""

from __future__ import annotations

from hypothesis import settings


def share(fraction: float) -> settings:
    """Return a decorator for a property that is tried with this fraction of the profile's examples."""
    return settings(max_examples=max(10, round(settings().max_examples * fraction)))
