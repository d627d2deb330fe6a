"""What can go wrong, named by what the caller can do about it."""

from __future__ import annotations


class VodsyncError(Exception):
    """Any failure that vodsync foresees; the message is for people and names the next step."""


class ConfigurationError(VodsyncError):
    """A setting is missing, unknown or unsafe; nothing was started."""


class NotificationRejectedError(VodsyncError):
    """The delivery was not accepted and nothing was written; `reason` is one word for metrics."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessageRejectedError(VodsyncError):
    """Another program's message asks for nothing that could be done; somebody has to send it differently."""


class StoreUnavailableError(VodsyncError):
    """The database did not take the write; asking again later is expected to work."""


class BrokerMismatchError(VodsyncError):
    """The broker holds something of another kind than we need; somebody has to change that there."""


class StaleSchemaError(VodsyncError):
    """The database's schema is not the one this release needs; `vodsync migrate` changes that."""


class VodError(VodsyncError):
    """VOD did not give an answer. `code`, `status` and `request_id` are VOD's own where it sent them."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id


class VodUnavailableError(VodError):
    """Asking again later is expected to work."""


class VodUnreadableError(VodUnavailableError):
    """VOD answered, and nobody can read it: a line that broke, or one medium of the batch."""


class VodThrottledError(VodError):
    """The account called too often; every worker has to slow down. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float | None = None, **fields: object) -> None:
        super().__init__(message, **fields)  # type: ignore[arg-type]
        self.retry_after = retry_after


class VodRefusedError(VodError):
    """Asking again with the same ids will not help."""


class VodCredentialsError(VodError):
    """No call of this source can work until somebody changes its keys, rights, bill or clock."""
