"""Verify the signature of calls to the queue, written from vod-protocol 3.3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from worker.emulator.api.api_errors import ApiError

#: How far the clock of a client may differ.
CLOCK_TOLERANCE = 15 * 60  # seconds

_AUTHORIZATION = re.compile(r"MNS ([^:\s]+):(\S+)")


def signature(secret: str, method: str, resource: str, headers: Mapping[str, str]) -> str:
    """Return the signature in Base64. `resource` is path and query as they were sent; `headers` have lower-case names."""
    lines = [method]
    for name in ("content-md5", "content-type", "date"):
        lines.append(headers.get(name, ""))
    for name, value in sorted(headers.items()):
        if name.startswith("x-mns-"):
            lines.append(f"{name}:{value}")
    lines.append(resource)
    digest = hmac.digest(secret.encode(), "\n".join(lines).encode(), "sha1")
    return base64.standard_b64encode(digest).decode("ascii")


class SmqSignatureVerifier:
    """Accepts correctly signed calls of one access key."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str = "") -> None:
        """Calls must carry `security_token`; without it they must carry none."""
        self._access_key_id = access_key_id
        self._access_key_secret = access_key_secret
        self._security_token = security_token

    def verify(self, *, method: str, resource: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Return if the signature is valid at `now` (unix seconds). Raises ApiError with the code of SMQ if not."""
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", "").strip())
        if match is None:
            raise ApiError("InvalidAuthorizationHeader", 400, "The Authorization header is not 'MNS AccessKeyId:Signature'.")
        if not headers.get("x-mns-version"):
            raise ApiError("InvalidArgument", 400, "The header x-mns-version is missing.")
        self._check_date(headers.get("date", ""), now)
        access_key_id, received = match.groups()
        if access_key_id != self._access_key_id:
            raise ApiError("InvalidAccessKeyId", 403, "The access key id you provided does not exist.")
        if headers.get("security-token", "") != self._security_token:
            raise ApiError("AccessDenied", 403, "The security token is not the one of this access key.")
        expected = signature(self._access_key_secret, method, resource, headers)
        if not hmac.compare_digest(received.encode(), expected.encode()):
            raise ApiError(
                "SignatureDoesNotMatch", 403, "The request signature we calculated does not match the signature you provided."
            )
        digest = headers.get("content-md5", "")
        if digest and digest != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
            # SMQ spells the code this way (vod-protocol 3.2).
            raise ApiError("InvalidDegist", 400, "The value of the Content-MD5 header does not match the body.")

    def _check_date(self, text: str, now: float) -> None:
        try:
            sent_at = parsedate_to_datetime(text)
        except ValueError:
            raise ApiError("InvalidDateHeader", 400, "The Date header is not like Mon, 24 Nov 2025 16:00:00 GMT.") from None
        sent_at = sent_at.replace(tzinfo=UTC) if sent_at.tzinfo is None else sent_at
        if abs(now - sent_at.timestamp()) > CLOCK_TOLERANCE:
            raise ApiError("InvalidDateHeader", 400, "The Date header is more than 15 minutes off.")
