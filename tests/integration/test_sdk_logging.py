"""The vendor's libraries print nothing by themselves."""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
from collections.abc import Iterator

import darabonba.core
import pytest


@pytest.fixture
def credentials_output() -> Iterator[io.StringIO]:
    """What the logger of the credentials library prints, with the handler and level that the library sets on import."""
    library, output = logging.getLogger("credentials"), io.StringIO()
    handlers, level = list(library.handlers), library.level
    library.addHandler(logging.StreamHandler(output))
    library.setLevel(logging.INFO)
    yield output
    library.handlers[:] = handlers
    library.setLevel(level)


@pytest.mark.parametrize("name", ["worker.vod.client", "worker.vod.credentials"])
def test_each_module_that_imports_the_credentials_library_silences_its_logger(
    name: str, credentials_output: io.StringIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    # The client puts a session of its own in this place.
    monkeypatch.setattr(darabonba.core, "Session", darabonba.core.Session)

    spec.loader.exec_module(module)
    logging.getLogger("credentials").error("demoSecret at a place that cannot be reached")
    logging.getLogger("credentials").critical("demoSecret is lost")

    assert credentials_output.getvalue() == ""
    assert "cannot be reached" not in caplog.text
