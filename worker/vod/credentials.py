"""Who we are to the vendor: the keys that are set, or those that its credential chain finds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from alibabacloud_credentials.client import Client as CredentialChain

from worker.core.errors import VodUnavailableError
from worker.settings import Source

# Importing the library gives its logger a handler of its own (vod-protocol 8.2). What it would say reaches us as an exception.
_library = logging.getLogger("credentials")
_library.handlers.clear()
_library.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key; the token comes with keys that are valid for hours only."""

    access_key_id: str
    secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)


def keys(source: Source) -> Callable[[], Keys]:
    """What gives the keys of the moment, for those of the chain expire. It raises VodUnavailable where there are none."""
    if source.access_key_id and source.access_key_secret:
        token = source.security_token.get_secret_value() if source.security_token else ""
        fixed = Keys(source.access_key_id, source.access_key_secret.get_secret_value(), token)
        return lambda: fixed
    chain = CredentialChain()

    def ask() -> Keys:
        try:
            found = chain.get_credential()
        except Exception as error:
            raise VodUnavailableError(f"the vendor's credential chain gave no key: {type(error).__name__}") from error
        if not found or not found.access_key_id or not found.access_key_secret:
            raise VodUnavailableError("the vendor's credential chain gave no key; set ALIBABA_CLOUD_ACCESS_KEY_ID")
        return Keys(found.access_key_id, found.access_key_secret, found.security_token or "")

    return ask
