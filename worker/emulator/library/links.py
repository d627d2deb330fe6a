"""URLs whose signature changes with every call (vod-protocol 7.31).

A medium is recorded with bare URLs. The host decides how one is signed: the delivery domains by CDN type A, the bucket by OSS,
and the open domain not at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote

CDN = "vod.emulator.example"
OPEN = "open.emulator.example"
BUCKET = "outin-5f2e.oss-cn-shanghai.aliyuncs.com"

#: Seconds that a signed URL stays valid.
VALIDITY = 3600

_PRIVATE_KEY = "emulator-cdn-key"
_CDN_PREFIX = f"http://{CDN}"
_BUCKET_PREFIX = f"https://{BUCKET}"


class Signer:
    """Signs the URLs of one answer; `now` is unix seconds."""

    def __init__(self, now: float) -> None:
        self._expires = int(now) + VALIDITY
        self._rand = secrets.token_hex(8)

    def __call__(self, url: str) -> str:
        if url.startswith(_CDN_PREFIX):
            path = url[len(_CDN_PREFIX) :]
            text = f"{path}-{self._expires}-{self._rand}-0-{_PRIVATE_KEY}"
            digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
            return f"{url}?auth_key={self._expires}-{self._rand}-0-{digest}"
        if url.startswith(_BUCKET_PREFIX):
            # The token makes two answers differ even within one second, as VOD's short-lived roles do.
            text = f"GET\n\n\n{self._expires}\n{url[len(_BUCKET_PREFIX) :]}?security-token={self._rand}"
            signature = base64.b64encode(hmac.digest(_PRIVATE_KEY.encode(), text.encode(), "sha1")).decode()
            query = f"Expires={self._expires}&OSSAccessKeyId=STS.Emulator&Signature={quote(signature, safe='')}"
            return f"{url}?{query}&security-token={self._rand}"
        return url


def unsigned(url: str) -> str:
    """The bare URL: what stays the same from one answer to the next."""
    return url
