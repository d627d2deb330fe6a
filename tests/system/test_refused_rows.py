"""A row that the database refuses stops no other one: a server with a small max_allowed_packet, and a column without emoji."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.system.installation import Installation, analysed
from tests.system.own_mariadb import own_mariadb
from tests.system.processes import eventually

FAILED = 1

#: Larger than the packets that the server accepts.
LARGE = "x" * 300_000


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A receiver with a MariaDB that accepts packets of 256 KiB. Nothing listens where VOD should be."""
    with own_mariadb("--max-allowed-packet=256K") as url:
        installation = Installation(
            tmp_path_factory.mktemp("refused"), database_url=url, broker_url=None, VODSYNC_ENDPOINT="http://127.0.0.1:1"
        )
        assert installation.run("migrate").returncode == 0
        installation.start("receiver", "serve")
        installation.wait_until_ready()
        yield installation
        installation.close()


@pytest.fixture(autouse=True)
def _no_rows(receiver: Installation) -> None:
    for table in ("vod_notification", "vod_sync_request"):
        receiver.database.do(f"DELETE FROM {table}")


def send(receiver: Installation, *media_ids: str, **more: Any) -> None:
    for media_id in media_ids:
        response = receiver.notify(json.dumps(analysed(media_id, **more), ensure_ascii=False).encode())
        assert response.status_code == 200, response.text


def stored(receiver: Installation) -> set[str]:
    return {row["media_id"] for row in receiver.database.table("vod_notification")}


def requested(receiver: Installation) -> set[str]:
    return {row["media_id"] for row in receiver.database.table("vod_sync_request")}


def statusz(receiver: Installation) -> dict[str, Any]:
    status: dict[str, Any] = receiver.http.get("/statusz").json()
    return status


@contextmanager
def writes_blocked(receiver: Installation) -> Iterator[None]:
    """Let the database accept no writes meanwhile, so that notifications are spooled."""
    with receiver.database.connection() as connection:
        connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
        try:
            yield
        finally:
            connection.exec_driver_sql("UNLOCK TABLES")


def wait_for_refused(receiver: Installation, *media_ids: str) -> list[dict[str, Any]]:
    """Wait until the others are stored and the spool is empty. Return the refused notifications as `failures list` shows them."""
    eventually(
        lambda: stored(receiver) == set(media_ids) and not statusz(receiver)["spool"]["count"],
        within=20,
        missing=lambda: f"{stored(receiver)}, {statusz(receiver)}; logs:\n{receiver.logs()[-3000:]}",
    )
    listed: list[dict[str, Any]] = json.loads(receiver.run("failures", "list", "--json").stdout)
    return listed


def test_one_callback_larger_than_a_packet_stops_no_other_one_and_can_be_retried(receiver: Installation) -> None:
    send(receiver, "large", Note=LARGE)
    send(receiver, *"abcde")
    (refused,) = wait_for_refused(receiver, *"abcde")
    status = json.loads(receiver.run("status", "--json").stdout)
    doctor = receiver.run("doctor", "--json")
    too_early = receiver.run("failures", "retry", refused["id"])
    receiver.database.do("SET GLOBAL max_allowed_packet = 16777216")
    try:
        retried = receiver.run("failures", "retry", refused["id"])
    finally:
        receiver.database.do("SET GLOBAL max_allowed_packet = 262144")

    assert (refused["kind"], refused["media_id"]) == ("refused_notification", "large")
    assert "larger than the database server's max_allowed_packet of 262,144; raise that limit" in refused["error"]
    # The body is only a hint: its asset is fetched all the same.
    assert requested(receiver) == {"large", *"abcde"}
    assert status["refused"]["count"] == 1
    assert any("1 notification was refused by the database" in problem for problem in status["problems"])
    (line,) = [line for line in json.loads(doctor.stdout) if line["part"] == "refused notifications"]
    assert (doctor.returncode, line["verdict"]) == (FAILED, "bad")
    assert (too_early.returncode, retried.returncode) == (FAILED, 0)
    assert "1 notification refused again" in too_early.stderr
    assert stored(receiver) == {"large", *"abcde"}
    assert (statusz(receiver)["refused"], receiver.http.get("/readyz").status_code) == ({"count": 0, "since": None}, 200)


def test_a_refused_notification_in_the_middle_of_the_spool_stops_no_other_one(receiver: Installation) -> None:
    with writes_blocked(receiver):
        send(receiver, "a")
        send(receiver, "large", Note=LARGE)
        send(receiver, "b", "c")
        spooled = statusz(receiver)["spool"]["count"]

    (refused,) = wait_for_refused(receiver, *"abc")
    eventually(lambda: receiver.http.get("/readyz").json()["parts"]["database"]["state"] == "ok", within=20, missing="a database")
    send(receiver, "d")
    dropped = receiver.run("failures", "drop", refused["id"])

    assert dropped.returncode == 0
    assert spooled == 4
    assert refused["media_id"] == "large"
    assert stored(receiver) == set("abcd")


def test_one_emoji_that_a_column_cannot_represent_stops_no_other_one(receiver: Installation) -> None:
    receiver.database.do("ALTER TABLE vod_notification MODIFY body MEDIUMTEXT CHARACTER SET latin1 NOT NULL")
    try:
        send(receiver, "emoji", Note="\N{CLAPPER BOARD}")
        send(receiver, *"abc")
        (refused,) = wait_for_refused(receiver, *"abc")
    finally:
        receiver.database.do("ALTER TABLE vod_notification MODIFY body MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL")
    retried = receiver.run("failures", "retry", "--all")

    assert "Incorrect string value" in refused["error"]
    assert retried.returncode == 0, retried.stderr
    assert stored(receiver) == {"emoji", *"abc"}


def test_large_callbacks_that_arrive_together_are_only_refused_if_they_are_too_large_alone(receiver: Installation) -> None:
    # Four of them do not fit into one packet.
    with writes_blocked(receiver):
        send(receiver, *"abcd", Note="x" * 100_000)

    assert wait_for_refused(receiver, *"abcd") == []
