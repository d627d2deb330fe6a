"""What a log line may hold."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pymysql
import pytest
from amqp.exceptions import RecoverableConnectionError

from worker import logs


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(logs, "redactor", logs.redactor)
    root = logging.getLogger()
    before = root.handlers, root.level

    def write(**fields: object) -> dict[str, object]:
        logs.configure("info", secrets=["Sup3rSecret"])
        logging.getLogger("test").info("phrase %s", fields.pop("text", ""), **fields)
        found: dict[str, object] = json.loads(capsys.readouterr().err.splitlines()[-1])
        return found

    yield write
    root.handlers, root.level = before[0], before[1]


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
def test_secrets_signatures_and_control_characters_stay_out(line: object, text: str, forbidden: str) -> None:
    written = line(text=text)  # type: ignore[operator]

    assert forbidden not in str(written["event"])
    assert "phrase" in str(written["event"])


def test_a_lost_broker_is_a_sentence_and_an_unknown_error_keeps_its_traceback(line: Any) -> None:
    lost = line(exc_info=RecoverableConnectionError("connection already closed"))
    unknown = line(exc_info=ValueError("a bug"))

    assert (lost["error"], "exception" in lost) == ("RecoverableConnectionError: connection already closed", False)
    assert "a bug" in unknown["exception"]


def test_a_connection_that_a_pool_lost_is_a_sentence(line: Any, capsys: pytest.CaptureFixture[str]) -> None:
    line()
    try:
        raise pymysql.err.InterfaceError(0, "")
    except pymysql.err.InterfaceError:
        logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset or similar", exc_info=True)

    written = json.loads(capsys.readouterr().err.splitlines()[-1])

    assert written["error"] == "InterfaceError: (0, '')"
    assert "exception" not in written


def test_a_thread_that_dies_is_logged_as_one_line(line: Any, capsys: pytest.CaptureFixture[str]) -> None:
    line()
    thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")

    thread.start()
    thread.join()

    (said,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (said["event"], said["thread"]) == ("thread died", "worker-7")
    assert "ZeroDivisionError" in said["exception"]
