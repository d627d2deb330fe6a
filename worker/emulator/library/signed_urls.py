"""Sign URLs so that the signature differs in every answer (vod-protocol 7.31).

Assets are made with bare URLs. The host decides how a URL is signed: delivery domains by CDN authentication type A, the bucket by
OSS, the open domain not at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote

CDN_HOST = "vod.emulator.example"
OPEN_HOST = "open.emulator.example"
BUCKET_HOST = "outin-5f2e.oss-cn-shanghai.aliyuncs.com"

URL_VALIDITY = 3600  # seconds

_PRIVATE_KEY = "emulator-cdn-key"
_CDN_PREFIX = f"http://{CDN_HOST}"
_BUCKET_PREFIX = f"https://{BUCKET_HOST}"


class UrlSigner:
    """Signs the URLs of one answer; `now` is unix seconds."""

    def __init__(self, now: float) -> None:
        self._expires = int(now) + URL_VALIDITY
        self._random_text = secrets.token_hex(8)

    def __call__(self, url: str) -> str:
        """Return `url` with the signature that its host requires."""
        if url.startswith(_CDN_PREFIX):
            path = url[len(_CDN_PREFIX) :]
            text = f"{path}-{self._expires}-{self._random_text}-0-{_PRIVATE_KEY}"
            digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
            return f"{url}?auth_key={self._expires}-{self._random_text}-0-{digest}"
        if url.startswith(_BUCKET_PREFIX):
            # The security token makes two answers of the same second differ, as those of VOD's short-lived roles do.
            text = f"GET\n\n\n{self._expires}\n{url[len(_BUCKET_PREFIX) :]}?security-token={self._random_text}"
            signature = base64.b64encode(hmac.digest(_PRIVATE_KEY.encode(), text.encode(), "sha1")).decode()
            query = f"Expires={self._expires}&OSSAccessKeyId=STS.Emulator&Signature={quote(signature, safe='')}"
            return f"{url}?{query}&security-token={self._random_text}"
        return url


def keep_unsigned(url: str) -> str:
    """Return the bare URL, which is the same in every answer."""
    return url
