"""Log lines that are a fixed phrase plus fields, and never a secret."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

from worker.core.urls import strip_signature

MASK = "***"

_BROKER_LIBRARIES = ("amqp", "kombu", "redis")

# user:password@ in any URL. A password that is not escaped ends at the last @ of its word.
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):(\S+)@")

# ?password=… in a database URL
_PASSWORD_PARAMETER = re.compile(r"([?&](?:password|passwd|sslpassword|ssl_key_password)=)[^&\s]+", re.IGNORECASE)


# The same in a text that is one URL, where a password may hold anything.
_URL = re.compile(r"(?<=://)([^/@:]*):(.*)@", re.DOTALL)


def without_password(url: str) -> str:
    """`url`, and nothing else, as it may be shown."""
    return redactor.text(_URL.sub(rf"\1:{MASK}@", url))


def password(url: str) -> str | None:
    """The password as it stands in `url`, and nothing else."""
    found = _URL.search(url)
    return found[2] if found else None


class _Redactor:
    """Takes known secrets, passwords in URLs and URL signatures out of every text of a log line."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        # Longest first, so that a secret that contains another goes whole. A one-letter "secret" would eat every line.
        self._secrets = tuple(sorted({*self._secrets, *(s for s in secrets if len(s) >= 4)}, key=len, reverse=True))

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        if "://" in text:
            text = strip_signature(_PASSWORD_PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", text)))
        # A line feed or an escape sequence from outside must not forge a line or steer a terminal.
        return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                cleaned = self.text(value.rstrip("\n"))
                event[key] = cleaned if key == "exception" else cleaned.replace("\n", "\\n")
            elif not isinstance(value, int | float | bool | type(None)):
                event[key] = self.text(str(value)).replace("\n", "\\n")
        return event


redactor = _Redactor()


def _brief(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A connection that is gone needs a sentence; where in Celery or in a pool it was noticed helps nobody."""
    found = event.get("exc_info")
    error = found[1] if isinstance(found, tuple) else sys.exception() if found is True else found
    pooled = error is not None and str(event.get("logger", "")).startswith("sqlalchemy.pool")
    if pooled or isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _BROKER_LIBRARIES:
        del event["exc_info"]
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def configure(level: str = "info", *, secrets: Iterable[str] = ()) -> None:
    """Send every log line of the process to stderr: coloured at a terminal, one JSON object a line elsewhere."""
    redactor.learn(secrets)
    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _brief,
        structlog.processors.format_exc_info,
        redactor,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer(colors=True) if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    threading.excepthook = _thread_died
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Libraries report what we report ourselves, in more words.
    for name in ("celery", "kombu", "amqp", "uvicorn", "httpx", "httpcore", "alembic", "apscheduler", "urllib3"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(max(logging.WARNING, root.level))


def _thread_died(died: threading.ExceptHookArgs) -> None:
    error = (died.exc_type, died.exc_value, died.exc_traceback)
    get(__name__).error("thread died", thread=died.thread.name if died.thread else None, exc_info=error)


def get(name: str) -> Any:
    return structlog.stdlib.get_logger(name)
