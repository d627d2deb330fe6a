"""Silence the loggers of the vendor's libraries."""

from __future__ import annotations

import logging


def silence() -> None:
    """Remove the handlers that the import of the vendor's libraries adds to their loggers (vod-protocol 8.2).

    Without this they print whole requests and tracebacks. Our code receives the same failures as exceptions.
    """
    for name in ("darabonba", "credentials"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.CRITICAL)
