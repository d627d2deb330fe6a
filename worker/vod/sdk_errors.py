"""Convert the exceptions of the official SDK into ours, by what the caller can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alibabacloud_tea_openapi.exceptions import AlibabaCloudException

from worker.core.errors import (
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    describe_error,
)
from worker.core.urls import storable

_MAX_MESSAGE_LENGTH = 200  # characters of an error code or message, which a gateway before VOD may have written
_MAX_REQUEST_ID_LENGTH = 64  # characters
_MAX_RETRY_AFTER = 300_000  # milliseconds, the longest pause that VOD can request

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


def from_response(error: AlibabaCloudException) -> VodError:
    """Return the error for a response of VOD: by the prefix of its code first, by its HTTP status second (vod-protocol 4.4)."""
    code, status = storable(str(error.code or ""))[:_MAX_MESSAGE_LENGTH], _status(error)
    data: Mapping[str, Any] = error.data if isinstance(getattr(error, "data", None), Mapping) else {}
    request_id = storable(str(getattr(error, "request_id", None) or data.get("RequestId") or ""))[:_MAX_REQUEST_ID_LENGTH]
    fields: dict[str, Any] = {"code": code, "status": status, "request_id": request_id}
    if code.startswith("Throttling") or status == 429:
        retry_after = _retry_after(getattr(error, "retry_after", None))
        return VodThrottledError(f"VOD throttled the call: {code}", retry_after=retry_after, **fields)
    if code.startswith(_UNAVAILABLE):
        return VodUnavailableError(f"VOD is not available: {code}", **fields)
    if code.startswith("InvalidTimeStamp"):
        return VodCredentialsError(f"VOD reports that this machine's clock is wrong ({code}); set it by NTP", **fields)
    if code.startswith(_CREDENTIALS) or code in _NO_PERMISSION:
        return VodCredentialsError(
            f"VOD does not permit this account to call: {code}; check its keys, RAM rights and bill", **fields
        )
    if status is not None and 400 <= status < 500 and code:
        return VodRefusedError(f"VOD refused the call: {code}", **fields)
    return VodUnavailableError(f"VOD is not available: HTTP {status} {code}".rstrip(), **fields)


def cause(error: BaseException) -> str:
    """Return type and message of the innermost exception, without the SDK's wrappers around it."""
    seen = {id(error)}
    while (inner := getattr(error, "inner_exception", None) or error.__cause__ or _context(error)) and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return storable(describe_error(error))[:_MAX_MESSAGE_LENGTH]


def _context(error: BaseException) -> BaseException | None:
    return None if error.__suppress_context__ else error.__context__


def _retry_after(milliseconds: int | None) -> float | None:
    """Return the seconds for which VOD wants no calls, _MAX_RETRY_AFTER at most."""
    if not milliseconds or milliseconds < 0:
        return None
    # Bounded before the division, because the header can have more digits than a float can represent.
    return min(milliseconds, _MAX_RETRY_AFTER) / 1000


def _status(error: AlibabaCloudException) -> int | None:
    try:
        return int(error.status_code)
    except (AttributeError, TypeError, ValueError):
        return None
