"""Silence the loggers of the vendor's libraries."""

from __future__ import annotations

import logging

#: The loggers of the SDK's core, its older core and its credential library, under the names that they use.
LOGGERS = ("darabonba-core", "alibabacloud-tea", "credentials")


def silence() -> None:
    """Remove the handlers that the import of the vendor's libraries adds to their loggers (vod-protocol 8.2).

    Without this they print whole requests and tracebacks. With DEBUG=sdk in the environment these contain the access key id, the
    security token and the signature. Our code receives the same failures as exceptions.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.CRITICAL)
