"""Provide the access key for requests that vodsync signs itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from alibabacloud_credentials.client import Client as CredentialChain

from worker.core.errors import VodUnavailableError
from worker.settings import Source
from worker.vod import vendor_loggers

vendor_loggers.silence()


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key. Temporary keys, which are valid for hours, have a security token as well."""

    access_key_id: str
    secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)


def access_key_provider(source: Source) -> Callable[[], AccessKey]:
    """Return a function that returns the source's current access key.

    The key comes from the settings, or else from the vendor's credential chain, whose keys expire. The function raises
    VodUnavailableError if the chain finds no key.
    """
    if source.access_key_id and source.access_key_secret:
        token = source.security_token.get_secret_value() if source.security_token else ""
        configured = AccessKey(source.access_key_id, source.access_key_secret.get_secret_value(), token)
        return lambda: configured
    chain = CredentialChain()

    def current_key() -> AccessKey:
        try:
            credential = chain.get_credential()
        except Exception as error:
            raise VodUnavailableError(f"the vendor's credential chain found no key: {type(error).__name__}") from error
        if not credential or not credential.access_key_id or not credential.access_key_secret:
            raise VodUnavailableError("the vendor's credential chain found no key; set ALIBABA_CLOUD_ACCESS_KEY_ID")
        return AccessKey(credential.access_key_id, credential.access_key_secret, credential.security_token or "")

    return current_key
