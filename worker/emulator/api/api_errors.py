"""How VOD says no: a code, a status, and the body that every error has (vod-protocol 4.4)."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """The call ends with an error of VOD's; `code` is the word that clients act upon."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    def body(self, *, request_id: str, host: str) -> dict[str, Any]:
        return {
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={self.code}&product=vod",
        }


def missing_parameter(name: str) -> ApiError:
    message = f'The input parameter "{name}" that is mandatory for processing this request is not supplied.'
    return ApiError("MissingParameter", 400, message)


def not_permitted(code: str) -> ApiError:
    """The refusal of a key or an account that may not call, with the status that fits `code`."""
    if code.startswith(("Forbidden", "OperationDenied")):
        return ApiError(code, 403, "The call is not permitted.")
    return ApiError(code, 404 if code.endswith(".NotFound") else 400, "The call is not permitted.")


def throttled() -> ApiError:
    # 400, not 429, and without a hint when to come back: that is what makes VOD's flow control easy to mistake for a
    # refusal (vod-protocol 4.4, 8.2).
    return ApiError("Throttling.User", 400, "Request was denied due to user flow control.")
