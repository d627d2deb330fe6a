"""Errors of the API: a code, a status, and the body that all errors have (vod-protocol 4.4)."""

from __future__ import annotations

from worker.emulator.library.json_types import JsonObject


class ApiError(Exception):
    """The call is answered with an error. Clients decide by `code`; `status` is the HTTP status."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    def body(self, *, request_id: str, host: str) -> JsonObject:
        """Return the JSON body; `host` is the Host header of the request."""
        return {
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={self.code}&product=vod",
        }


def missing_parameter(name: str) -> ApiError:
    """Return the error of a call without a required parameter."""
    message = f'The input parameter "{name}" that is mandatory for processing this request is not supplied.'
    return ApiError("MissingParameter", 400, message)


def not_permitted(code: str) -> ApiError:
    """Return the error of a key or an account that may not call, with the status that belongs to `code`."""
    if code.startswith(("Forbidden", "OperationDenied")):
        return ApiError(code, 403, "The call is not permitted.")
    return ApiError(code, 404 if code.endswith(".NotFound") else 400, "The call is not permitted.")


def throttled() -> ApiError:
    """Return the error of a call beyond the rate limit.

    The status is 400, not 429, and there is no Retry-After header. A client can easily mistake this answer for a permanent error
    (vod-protocol 4.4, 8.2).
    """
    return ApiError("Throttling.User", 400, "Request was denied due to user flow control.")
