"""Sources without an access key: what is reported, and when the start is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker import settings
from worker.core.errors import ConfigurationError
from worker.runtime import Runtime
from worker.vod.client import require_credential_chain


def test_the_error_without_an_access_key_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="ALIBABA_CLOUD_ACCESS_KEY_ID"):
        require_credential_chain("default")


def test_sources_without_keys_are_refused_only_if_no_source_has_keys() -> None:
    keys = "access_key_id = 'id'\naccess_key_secret = 's'\n"
    Path("vodsync.toml").write_text(f"[sources.keyless]\n[sources.complete]\n{keys}")
    runtime = Runtime(settings.load(environ={}))

    assert list(runtime.source_contexts) == ["complete"]
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in runtime.unserved["keyless"]
    with pytest.raises(ConfigurationError, match="source keyless"):
        runtime.require_credentials("keyless")
    with pytest.raises(ConfigurationError, match="source default"):
        _ = Runtime(settings.load(config=Path(os.devnull), environ={})).source_contexts


def test_a_source_with_half_a_key_pair_is_always_refused() -> None:
    keys = "access_key_id = 'id'\naccess_key_secret = 's'\n"
    Path("vodsync.toml").write_text(f"[sources.half]\naccess_key_id = 'id'\n[sources.complete]\n{keys}")

    with pytest.raises(ConfigurationError, match="source half"):
        _ = Runtime(settings.load(environ={})).source_contexts
