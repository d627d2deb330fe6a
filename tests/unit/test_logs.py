"""What a log line contains, and what never appears in one."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from amqp.exceptions import RecoverableConnectionError

from worker import logs
from worker.core.errors import VodsyncError, describe_error

#: Log a text and an error. Return the fields of the line that was written.
WriteLine = Callable[..., dict[str, Any]]


@pytest.fixture
def write_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteLine]:
    monkeypatch.setattr(logs, "redactor", logs.redactor)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def write(text: str = "", error: Exception | None = None) -> dict[str, Any]:
        logs.configure("info", secrets=["Sup3rSecret"])
        logging.getLogger("test").info("phrase %s", text, exc_info=error)
        return last_line(capsys)

    yield write
    root.handlers, root.level = handlers, level


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().err.splitlines()[-1])
    return line


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("key Sup3rSecret here", "Sup3rSecret"),
        ("postgresql://user:hunter2@host/db", "hunter2"),
        ("http://x.example/a.mp4?auth_key=17-0-0-abcdef&a=1", "abcdef"),
        ("https://b.example/x?Expires=1&OSSAccessKeyId=LTAI&Signature=s1gn", "s1gn"),
        ("forged\nline", "\n"),
        ("\x1b[2J clears the screen", "\x1b"),
    ],
)
def test_secrets_signatures_and_control_characters_are_not_logged(write_line: WriteLine, text: str, forbidden: str) -> None:
    line = write_line(text)

    assert forbidden not in str(line["event"])
    assert "phrase" in str(line["event"])


def test_a_lost_broker_is_logged_as_one_sentence_and_an_unknown_error_with_its_traceback(write_line: WriteLine) -> None:
    lost = write_line(error=RecoverableConnectionError("connection already closed"))
    unknown = write_line(error=ValueError("a bug"))

    assert (lost["error"], "exception" in lost) == ("RecoverableConnectionError: connection already closed", False)
    assert "a bug" in unknown["exception"]


def test_missing_memory_is_logged_as_one_sentence_that_names_the_next_step(write_line: WriteLine) -> None:
    line = write_line(error=MemoryError())
    no_thread = write_line(error=RuntimeError("can't start new thread"))

    assert (line["error"], "exception" in line) == (describe_error(MemoryError()), False)
    assert ("--concurrency" in no_thread["error"], "exception" in no_thread) == (True, False)


def test_an_error_without_a_text_is_never_shown_as_it_is() -> None:
    described = {type(error).__name__: describe_error(error) for error in (TimeoutError(), ValueError(" "), VodsyncError())}

    assert described == {name: f"{name}: no error message" for name in ("TimeoutError", "ValueError", "VodsyncError")}
    assert describe_error(VodsyncError("a sentence")) == "a sentence"
    assert describe_error(KeyError("key")) == "KeyError: 'key'"
    assert "more memory" in describe_error(MemoryError())


def test_a_connection_that_a_pool_lost_is_logged_as_one_sentence(write_line: WriteLine, capsys: pytest.CaptureFixture[str]) -> None:
    write_line()
    try:
        raise pymysql.err.InterfaceError(0, "")
    except pymysql.err.InterfaceError:
        logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset or similar", exc_info=True)

    line = last_line(capsys)
    assert line["error"] == "InterfaceError: (0, '')"
    assert "exception" not in line


def test_a_thread_that_dies_is_logged_as_one_line(write_line: WriteLine, capsys: pytest.CaptureFixture[str]) -> None:
    write_line()
    thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")

    thread.start()
    thread.join()

    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["thread"]) == ("thread died", "worker-7")
    assert "ZeroDivisionError" in line["exception"]
