"""Decide what an answer of VOD is: the content by its members, an error by its code, or something that VOD did not write."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from worker.core.errors import (
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.urls import storable
from worker.vod import json_answers
from worker.vod.http_client import Response

#: Members of which an answer of each operation has at least one. JSON without them is not VOD's.
_MEMBERS = {
    "BatchGetMediaInfos": ("MediaInfos", "NonExistMediaIds", "NonExistReferenceIds", "ForbiddenMediaIds"),
    "GetVideoInfo": ("Video",),
    "SearchMedia": ("MediaList", "Total"),
    "GetMessageCallback": ("MessageCallback",),
}

_MAX_CODE_LENGTH = 200  # characters of an error code, which a gateway before VOD may have written
_MAX_REQUEST_ID_LENGTH = 64  # characters
_MAX_RETRY_AFTER = 300.0  # seconds, the longest pause that an answer can request

# The code decides, because the vendor's pages disagree about the HTTP statuses (vod-protocol 4.4).
_UNAVAILABLE = ("ServiceUnavailable", "ServiceUnAvailable", "InternalError", "SignatureNonceUsed")
_CREDENTIALS = (
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "SignatureDoesNotMatch",
    "InvalidSecurityToken",
    "MissingSecurityToken",
    "InvalidTimeStamp",
    "OperationDenied",
    "InvalidCredentials",
)
# Whole codes, because Forbidden.IllegalStatus is about one asset and not about permissions.
_NO_PERMISSION = ("Forbidden", "Forbidden.RAM", "NoPermission")


def interpret(operation: str, response: Response) -> dict[str, Any]:
    """Return the JSON object that VOD sent, with all its fields. Any: JSON of any shape.

    An error in VOD's form raises the VodError of its code, also with status 200. Everything that is not in VOD's form, such as the
    page of a gateway, raises VodUnavailableError. A broken JSON object raises VodUnreadableError, as one asset can be the cause.
    """
    content = _decode(operation, response)
    code = content.get("Code") if content else None
    is_code = isinstance(code, str) and bool(code.strip())
    has_members = content is not None and any(name in content for name in _MEMBERS[operation])
    if content is not None and is_code and not has_members:
        raise _error(content, response)
    if response.status == 429 or (response.status == 503 and _retry_after(response) is not None):
        raise VodThrottledError(
            f"VOD wants a pause ({response.origin})", retry_after=_retry_after(response), status=response.status
        )
    if content is None or not has_members or response.status >= 400:
        raise VodUnavailableError(
            f"{operation} was not answered by VOD ({response.origin}); a gateway or proxy may have answered", status=response.status
        )
    return content


def _decode(operation: str, response: Response) -> dict[str, Any] | None:
    """Return the JSON object in the body; None if the body is something else. Raises VodUnreadableError for a broken object."""
    try:
        return json_answers.decode(operation, response.body)
    except VodUnreadableError:
        if response.status < 400 and response.body.lstrip()[:1] == b"{":
            raise
        return None


def _error(content: dict[str, Any], response: Response) -> VodError:
    """Return the error for a code of VOD: by the prefix of the code first, by the HTTP status second (vod-protocol 4.4)."""
    code, status = storable(content["Code"].strip())[:_MAX_CODE_LENGTH], response.status
    request_id = storable(str(content.get("RequestId") or ""))[:_MAX_REQUEST_ID_LENGTH]
    fields: dict[str, Any] = {"code": code, "status": status, "request_id": request_id}
    if code.startswith("Throttling") or status == 429:
        return VodThrottledError(f"VOD throttled the call: {code}", retry_after=_retry_after(response), **fields)
    if code.startswith(_UNAVAILABLE):
        retry_after = _retry_after(response)
        if retry_after is not None:
            return VodThrottledError(f"VOD is not available and wants a pause: {code}", retry_after=retry_after, **fields)
        return VodUnavailableError(f"VOD is not available: {code}", **fields)
    if code.startswith("InvalidTimeStamp"):
        return VodCredentialsError(f"VOD reports that this machine's clock is wrong ({code}); set it by NTP", **fields)
    if code.startswith(_CREDENTIALS) or code in _NO_PERMISSION:
        return VodCredentialsError(
            f"VOD does not permit this account to call: {code}; check its keys, RAM rights and bill", **fields
        )
    if status < 500:
        return VodRefusedError(f"VOD refused the call: {code}", **fields)
    return VodUnavailableError(f"VOD is not available: HTTP {status} {code}", **fields)


def date(response: Response) -> datetime | None:
    """Return the sender's time when it answered; None if the answer has no valid date."""
    return _parse_date(response.headers.get("date"))


def _parse_date(written: str | None) -> datetime | None:
    try:
        parsed = None if written is None else parsedate_to_datetime(written)
    except (ValueError, OverflowError):
        return None
    # The zone "-0000" makes a time without a zone.
    return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed


def _retry_after(response: Response) -> float | None:
    """Return the seconds for which the answer wants no calls, _MAX_RETRY_AFTER at most; None if it names no valid time.

    VOD's own header has milliseconds. The header of HTTP has seconds or a date, and gateways send it.
    """
    if (milliseconds := response.headers.get("x-acs-retry-after")) is not None:
        seconds = _seconds(milliseconds)
        return None if seconds is None else min(seconds / 1000, _MAX_RETRY_AFTER)
    written = response.headers.get("retry-after")
    if written is None:
        return None
    seconds = _seconds(written)
    if seconds is None:
        # From the sender's time, because this machine's clock may be minutes off.
        until, sent_at = _parse_date(written), date(response)
        if until is None or sent_at is None:
            return None
        seconds = (until - sent_at).total_seconds()
    return min(seconds, _MAX_RETRY_AFTER) if seconds > 0 else None


def _seconds(written: str) -> float | None:
    """Return a whole number above zero. Long numbers are cut, because they are bounded anyway."""
    return (float(written[:12]) or None) if written.isascii() and written.isdigit() else None
