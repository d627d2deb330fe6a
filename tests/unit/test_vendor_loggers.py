"""The vendor's libraries print nothing by themselves, also if the environment switches their debug output on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Prints the loggers that would write a debug record to a handler of their own, after the module was imported.
PRINTING_LOGGERS = """
import importlib, logging, sys
importlib.import_module(sys.argv[1])
for name, logger in logging.Logger.manager.loggerDict.items():
    if isinstance(logger, logging.Logger):
        handlers = [handler for handler in logger.handlers if not isinstance(handler, logging.NullHandler)]
        if handlers and logger.isEnabledFor(logging.DEBUG):
            print(name)
"""


@pytest.mark.parametrize("module", ["worker.vod.client", "worker.vod.credentials"])
def test_no_vendor_logger_prints_requests_with_debug_output_switched_on(module: str) -> None:
    environment = {**os.environ, "DEBUG": "sdk"}

    result = subprocess.run(
        [sys.executable, "-c", PRINTING_LOGGERS, module], env=environment, capture_output=True, text=True, check=True, timeout=60
    )

    assert result.stdout == ""


def test_the_vendor_library_would_print_requests_by_itself() -> None:
    environment = {**os.environ, "DEBUG": "sdk"}

    result = subprocess.run(
        [sys.executable, "-c", PRINTING_LOGGERS, "darabonba.core"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "darabonba-core" in result.stdout
