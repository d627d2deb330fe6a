"""The exceptions of vodsync, grouped by what the caller can do."""

from __future__ import annotations


def is_shortage(error: BaseException | None) -> bool:
    """Return True if a limit of the system is the reason. Where it was met is of no use to a reader."""
    # Python has no type for a thread that cannot be started, neither for lack of memory nor of processes.
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error))


def describe_error(error: BaseException) -> str:
    """Return what to show of an error: never an empty text, and for an error of vodsync its sentence alone."""
    if isinstance(error, MemoryError):
        return "not enough memory; give vodsync more memory, or start its workers with a smaller --concurrency"
    if is_shortage(error):
        return "no thread can be started; give vodsync more memory or processes, or start its workers with a smaller --concurrency"
    text = str(error).strip()
    if isinstance(error, VodsyncError) and text:
        return text
    return f"{type(error).__name__}: {text or 'no error message'}"


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
    """The database did not take the write. Retrying later is expected to succeed.

    `may_be_refused`: the rows may be the cause. The connection was lost while they were sent, or the error is unknown.
    """

    def __init__(self, message: str, *, may_be_refused: bool = False) -> None:
        super().__init__(message)
        self.may_be_refused = may_be_refused


class RowRefusedError(StoreUnavailableError):
    """The database works, and refuses a row of this write. A retry succeeds only after a change of the database or its settings."""


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
