"""Whose call to the queue is this? The check of its signature, written from vod-protocol 3.3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from worker.emulator.api.api_errors import ApiError

#: How far a call's clock may be off, in seconds.
TOLERANCE = 15 * 60

_AUTHORIZATION = re.compile(r"MNS ([^:\s]+):(\S+)")


def signature(secret: str, method: str, resource: str, headers: Mapping[str, str]) -> str:
    """`resource` is path and query as they came; names of headers are lower case."""
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
    """Lets calls of one access key pass."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str = "") -> None:
        self._id = access_key_id
        self._secret = access_key_secret
        self._token = security_token

    def admit(self, *, method: str, resource: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Return where the call is signed properly; `now` is unix seconds. Raises Refusal with the code that SMQ would give."""
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", "").strip())
        if match is None:
            raise ApiError("InvalidAuthorizationHeader", 400, "The Authorization header is not 'MNS AccessKeyId:Signature'.")
        if not headers.get("x-mns-version"):
            raise ApiError("InvalidArgument", 400, "The header x-mns-version is missing.")
        self._check_date(headers.get("date", ""), now)
        key_id, sent = match.groups()
        if key_id != self._id:
            raise ApiError("InvalidAccessKeyId", 403, "The access key id you provided does not exist.")
        if headers.get("security-token", "") != self._token:
            raise ApiError("AccessDenied", 403, "The security token is not the one of this access key.")
        expected = signature(self._secret, method, resource, headers)
        if not hmac.compare_digest(sent.encode(), expected.encode()):
            raise ApiError(
                "SignatureDoesNotMatch", 403, "The request signature we calculated does not match the signature you provided."
            )
        digest = headers.get("content-md5", "")
        if digest and digest != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
            raise ApiError("InvalidDegist", 400, "The value of the Content-MD5 header does not match the body.")

    def _check_date(self, text: str, now: float) -> None:
        try:
            sent = parsedate_to_datetime(text)
        except ValueError:
            raise ApiError("InvalidDateHeader", 400, "The Date header is not like Mon, 24 Nov 2025 16:00:00 GMT.") from None
        sent = sent.replace(tzinfo=UTC) if sent.tzinfo is None else sent
        if abs(now - sent.timestamp()) > TOLERANCE:
            raise ApiError("InvalidDateHeader", 400, "The Date header is more than 15 minutes off.")
