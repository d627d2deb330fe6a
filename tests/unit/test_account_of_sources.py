"""Which sources share a rate limit: those that call VOD as the same account, in the same region."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import settings
from worker.runtime import Runtime

ONE = "[sources.one]\naccess_key_id = 'id'\naccess_key_secret = 'secret'\nregion = 'cn-shanghai'\n"


def rate_limit_of_two(settings_of_two: str) -> str:
    """Return the name of the source whose rate limit the source `two` uses."""
    Path("vodsync.toml").write_text(f"{ONE}[sources.two]\n{settings_of_two}")
    return Runtime(settings.load(environ={})).sync_settings("two").rate_limit_name


def test_sources_with_the_same_keys_and_region_share_a_rate_limit() -> None:
    other_application = "access_key_id = 'id'\naccess_key_secret = 'secret'\nregion = 'cn-shanghai'\napp_id = 'app-1'\n"

    assert rate_limit_of_two(other_application) == "one"


@pytest.mark.parametrize(
    "settings_of_two",
    [
        "access_key_id = 'other'\naccess_key_secret = 'secret'\nregion = 'cn-shanghai'\n",
        "access_key_id = 'id'\naccess_key_secret = 'wrong'\nregion = 'cn-shanghai'\n",
        "access_key_id = 'id'\naccess_key_secret = 'secret'\nsecurity_token = 'token'\nregion = 'cn-shanghai'\n",
        "access_key_id = 'id'\naccess_key_secret = 'secret'\nregion = 'cn-beijing'\n",
        "access_key_id = 'id'\naccess_key_secret = 'secret'\nregion = 'cn-shanghai'\nendpoint = 'https://vod.example'\n",
    ],
    ids=["key", "secret", "token", "region", "endpoint"],
)
def test_sources_that_differ_in_keys_region_or_endpoint_do_not_share_one(settings_of_two: str) -> None:
    assert rate_limit_of_two(settings_of_two) == "two"
