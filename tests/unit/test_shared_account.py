"""Which sources share a rate limit: those of one account, region and endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import settings
from worker.runtime import Runtime

DESCRIBED = """
[sources.alpha]
region = "cn-shanghai"
access_key_id = "LTAI5tFirst"
access_key_secret = "FirstSecret"

[sources.beta]
{beta}
"""

SAME = {
    "region": "cn-shanghai",
    "access_key_id": "LTAI5tFirst",
    "access_key_secret": "FirstSecret",
}


def bucket_of_beta(folder: Path, described: dict[str, str]) -> str:
    """The source whose rate limit beta draws from."""
    file = folder / "vodsync.toml"
    file.write_text(DESCRIBED.format(beta="\n".join(f'{name} = "{value}"' for name, value in described.items())))
    return Runtime(settings.load(config=file, environ={})).policy("beta").bucket


def test_two_applications_of_one_account_share_a_rate_limit(tmp_path: Path) -> None:
    assert bucket_of_beta(tmp_path, SAME | {"app_id": "app-1000001"}) == "alpha"


@pytest.mark.parametrize(
    "different",
    [
        {"region": "cn-beijing"},
        {"endpoint": "https://vod.example.org"},
        {"access_key_id": "LTAI5tSecond"},
        {"access_key_secret": "SecondSecret"},
        {"security_token": "token"},
    ],
    ids=lambda different: next(iter(different)),
)
def test_sources_that_differ_in_account_region_or_endpoint_have_their_own_rate_limit(
    tmp_path: Path, different: dict[str, str]
) -> None:
    assert bucket_of_beta(tmp_path, SAME | different) == "beta"
