"""Configure logging: lines with a fixed phrase and fields, from which secrets are removed.

structlog imports Rich and asyncio, which takes longer than a short command runs. So it is imported when the first line is logged.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterable, MutableMapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from worker import standard_streams
from worker.core.errors import describe_error, is_shortage
from worker.core.urls import strip_signature

if TYPE_CHECKING:
    from structlog.stdlib import ProcessorFormatter

MASK = "***"

MIN_SECRET_LENGTH = 4  # characters; replacing a shorter "secret" would make every line unreadable

#: Libraries whose errors mean that the broker's connection was lost.
_BROKER_LIBRARIES = ("amqp", "kombu", "redis")

#: Libraries that log, in more words, what vodsync logs itself.
_QUIET_LIBRARIES = ("celery", "kombu", "amqp", "uvicorn", "httpx", "httpcore", "alembic", "apscheduler", "urllib3")

#: user:password@ in a URL inside a longer text. If the password is not escaped, it ends at the last @ of the word.
_PASSWORD_IN_TEXT = re.compile(r"(?<=://)([^/@\s:]*):(\S+)@")

#: The same in a text that is one URL. There an unescaped password may contain any character.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:]*):(.*)@", re.DOTALL)

#: ?password=... in a database URL.
_PASSWORD_PARAMETER = re.compile(r"([?&](?:password|passwd|sslpassword|ssl_key_password)=)[^&\s]+", re.IGNORECASE)

_Event = MutableMapping[str, Any]  # Any: fields of a log line may have any type


def without_password(url: str) -> str:
    """Return a URL with its password masked. The text must be one URL and nothing else."""
    return redactor.text(_PASSWORD_IN_URL.sub(rf"\1:{MASK}@", url))


def password(url: str) -> str | None:
    """Return the password in a URL, still escaped; None if there is none. The text must be one URL and nothing else."""
    match = _PASSWORD_IN_URL.search(url)
    return match[2] if match else None


class _Redactor:
    """Removes known secrets, passwords in URLs and URL signatures from texts. As a structlog processor, from all fields."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        """Remove these secrets too, from now on."""
        secrets = {*self._secrets, *(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)}
        # Longest first: a secret that contains another one is replaced whole.
        self._secrets = tuple(sorted(secrets, key=len, reverse=True))

    def text(self, text: str) -> str:
        """Return `text` without secrets and with control characters escaped. Line feeds remain."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        if "://" in text:
            text = strip_signature(_PASSWORD_PARAMETER.sub(rf"\1{MASK}", _PASSWORD_IN_TEXT.sub(rf"\1:{MASK}@", text)))
        # Text from outside must not send escape sequences to a terminal.
        return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)

    def __call__(self, _logger: object, _method: str, event: _Event) -> _Event:
        for key, value in event.items():
            if isinstance(value, str):
                text = self.text(value.rstrip("\n"))
                # Text from outside must not add a line to the log. A traceback has several lines.
                event[key] = text if key == "exception" else text.replace("\n", "\\n")
            elif not isinstance(value, int | float | bool | type(None)):
                event[key] = self.text(str(value)).replace("\n", "\\n")
        return event


redactor = _Redactor()


def _shorten_foreseen_error(_logger: object, _method: str, event: _Event) -> _Event:
    """Replace the traceback of a lost connection or of missing memory by the error. The place where it happened is of no use."""
    exc_info = event.get("exc_info")
    error = exc_info[1] if isinstance(exc_info, tuple) else sys.exception() if exc_info is True else exc_info
    is_from_pool = error is not None and str(event.get("logger", "")).startswith("sqlalchemy.pool")
    is_from_broker = type(error).__module__.partition(".")[0] in _BROKER_LIBRARIES
    if error is not None and (is_from_pool or is_from_broker or isinstance(error, OSError) or is_shortage(error)):
        del event["exc_info"]
        event["error"] = describe_error(error)
    return event


_is_configured = False


def configure(level: str = "info", *, secrets: Iterable[str] = ()) -> None:
    """Write all log lines of this process to stderr: coloured at a terminal, else one JSON object per line."""
    global _is_configured
    redactor.learn(secrets)
    _is_configured = True
    if "structlog" in sys.modules:
        _configure_structlog()
    standard_streams.prepare()
    standard_streams.report_dropped_with(_log_dropped)
    logging.captureWarnings(True)
    threading.excepthook = _log_dead_thread
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(is_terminal=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(max(logging.WARNING, root.level))


def get(name: str) -> Any:
    """Return the logger of a module, with the methods of structlog.stdlib.BoundLogger. Any: they take any field."""
    return _Logger(name)


class _Logger:
    """Imports structlog at the first message."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        return getattr(self._logger, method)

    @cached_property
    def _logger(self) -> Any:
        import structlog

        if _is_configured and not structlog.is_configured():
            _configure_structlog()
        return structlog.stdlib.get_logger(self._name)


class _Formatter(logging.Formatter):
    """Formats our lines and those of libraries alike. Imports structlog at the first line."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def format(self, record: logging.LogRecord) -> str:
        return self._formatter.format(record)

    @cached_property
    def _formatter(self) -> ProcessorFormatter:
        import structlog

        renderer: Any = structlog.processors.JSONRenderer()  # Any: the two renderers have no common type
        if self._is_terminal:
            renderer = structlog.dev.ConsoleRenderer(colors=True)
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_processors(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )


def _configure_structlog() -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _processors() -> list[Any]:
    """Return the steps for lines of vodsync and of libraries. Any: structlog's processors have several types."""
    import structlog

    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shorten_foreseen_error,
        structlog.processors.format_exc_info,
        redactor,
    ]


def _log_dropped(count: int) -> None:
    get(__name__).error("log lines dropped, because stderr was not read", count=count)


def _log_dead_thread(died: threading.ExceptHookArgs) -> None:
    error = (died.exc_type, died.exc_value, died.exc_traceback)
    get(__name__).error("thread died", thread=died.thread.name if died.thread else None, exc_info=error)
