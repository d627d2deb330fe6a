"""The exceptions of vodsync, grouped by what the caller can do."""

from __future__ import annotations


class VodsyncError(Exception):
    """An expected failure. The message is written for people and names the next step."""


class ConfigurationError(VodsyncError):
    """A setting is missing, unknown or unsafe. Nothing was started."""


class NotificationRejectedError(VodsyncError):
    """A notification was not accepted and nothing was written. `reason` is one word for metrics and the response."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessageRejectedError(VodsyncError):
    """A message of another program cannot be carried out. Its sender has to correct it."""


class StoreUnavailableError(VodsyncError):
    """The database did not take the write. Retrying later is expected to succeed."""


class UnsuitableDatabaseError(StoreUnavailableError):
    """The database cannot be used with its settings and privileges, or with those of the URL. An operator has to change them."""


class BrokerMismatchError(VodsyncError):
    """The broker has a queue or exchange of another kind than vodsync needs. The operator has to change it there."""


class StaleSchemaError(VodsyncError):
    """The database schema is not the one that this release needs. `vodsync migrate` changes it."""


class VodError(VodsyncError):
    """A call of VOD failed. `code`, `status` (HTTP) and `request_id` come from VOD's response, if there was one."""

    def __init__(self, message: str, *, code: str = "", status: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id


class VodUnavailableError(VodError):
    """Retrying later is expected to succeed."""


class VodUnreadableError(VodUnavailableError):
    """VOD answered with something that cannot be parsed: the transfer was damaged, or one asset of the batch is the cause."""


class VodThrottledError(VodError):
    """The account called too often, so every worker has to slow down. `retry_after` is in seconds, if VOD named a time."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, code: str = "", status: int | None = None, request_id: str = ""
    ) -> None:
        super().__init__(message, code=code, status=status, request_id=request_id)
        self.retry_after = retry_after


class VodRefusedError(VodError):
    """Retrying with the same ids will not succeed."""


class VodCredentialsError(VodError):
    """No call of this source can succeed until the operator corrects its keys, permissions, bill or clock."""
