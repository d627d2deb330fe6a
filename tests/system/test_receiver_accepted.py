"""Notifications that the receiver answers with 200, and what it has stored by then."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest

from tests.system.callbacks import OLD_KEY, STUDIO_KEY, STUDIO_URL, assert_refused, new_notification, post, stored
from tests.system.installation import CALLBACK_KEY, Installation, signed


def test_new_notification_is_stored_and_requests_a_fetch(receiver: Installation) -> None:
    notification = new_notification()

    response = receiver.notify(notification)

    assert (response.status_code, response.text) == (200, "ok")
    (row,) = stored(receiver, notification["VideoId"])
    assert (row["source"], row["event_type"], row["status"], row["deliveries"]) == (
        "default",
        "VideoAnalysisComplete",
        "success",
        1,
    )
    assert json.loads(row["body"]) == notification
    (due,) = receiver.database.rows("SELECT * FROM vod_sync_request WHERE media_id = :id", id=notification["VideoId"])
    assert (due["source"], due["state"], due["generation"], due["attempts"]) == ("default", "due", 1, 0)


def test_repeated_notification_is_counted(receiver: Installation) -> None:
    notification = new_notification()
    # The order of the keys does not distinguish notifications (vod-protocol 2.10).
    reordered = dict(reversed(notification.items()))

    responses = [receiver.notify(body) for body in (notification, notification, reordered)]

    assert [(response.status_code, response.text) for response in responses] == [(200, "ok")] * 3
    assert [row["deliveries"] for row in stored(receiver, notification["VideoId"])] == [3]


def test_unknown_event_type_and_missing_id_are_accepted(receiver: Installation) -> None:
    unknown = new_notification(EventType="SomethingNewComplete")
    without_id = {"EventType": "UploadByURLComplete", "Status": "fail", "JobId": f"job-{time.monotonic_ns()}"}

    responses = [receiver.notify(unknown), receiver.notify(without_id), receiver.notify(b"{}")]

    assert [(response.status_code, response.text) for response in responses] == [(200, "ok")] * 3
    assert [row["event_type"] for row in stored(receiver, unknown["VideoId"])] == ["SomethingNewComplete"]
    assert (
        receiver.database.value("SELECT count(*) FROM vod_notification WHERE body LIKE :job", job=f"%{without_id['JobId']}%") == 1
    )


@pytest.mark.parametrize("key", [CALLBACK_KEY, OLD_KEY])
def test_each_of_several_keys_is_accepted(receiver: Installation, key: str) -> None:
    assert receiver.notify(new_notification(), key=key).status_code == 200


def test_each_source_has_its_own_path_keys_and_rows(receiver: Installation) -> None:
    notification = new_notification()
    content = json.dumps(notification).encode()

    own_key = post(receiver, content, signed(content, url=STUDIO_URL, key=STUDIO_KEY), "/callbacks/studio")
    other_key = receiver.notify(notification, path="/callbacks/studio")
    by_name = receiver.notify(notification, path="/callbacks/default")

    assert (own_key.status_code, by_name.status_code) == (200, 200)
    assert_refused(other_key, 401, "signature")
    assert sorted(row["source"] for row in stored(receiver, notification["VideoId"])) == ["default", "studio"]


def test_unsigned_callbacks_are_accepted_if_configured(receiver: Installation) -> None:
    notification = new_notification()

    response = post(receiver, json.dumps(notification).encode(), {}, "/callbacks/open")

    assert (response.status_code, response.text) == (200, "ok")
    assert [row["source"] for row in stored(receiver, notification["VideoId"])] == ["open"]


@pytest.mark.parametrize(
    "fields",
    [
        {"Title": '🎬 O\'Brien \\ "quoted"\n\t\u202e‮'},
        {"EventType": "X" * 500},
        {"EventType": "'); DROP TABLE vod_notification;--"},
        {"EventTime": "yesterday"},
        {"EventTime": "2025-11-24T16:00:01:540Z"},
        {"EventTime": "9999999-01-01T00:00:00Z"},
        {"Status": ["success"]},
        {"Extend": "\u0000 NUL"},
        {"EventType": "\u0000"},
        {"Extend": "\ud800 half a pair"},
        {"Nested": {"deep": [[[[[[[[[[1]]]]]]]]]]}},
    ],
    ids=lambda fields: ascii(fields)[:40],
)
def test_unusual_notifications_are_stored(receiver: Installation, fields: dict[str, Any]) -> None:
    notification = new_notification(**fields)

    response = receiver.notify(notification)

    assert (response.status_code, response.text) == (200, "ok")
    assert len(stored(receiver, notification["VideoId"])) == 1


@pytest.mark.parametrize("number", ["1e999", "-1e-999", "9" * 40, "9" * 5000, "0.1" + "0" * 5000])
def test_huge_numbers_are_stored(receiver: Installation, number: str) -> None:
    media_id = f"huge-{time.monotonic_ns()}"

    response = receiver.notify(f'{{"EventType":"VideoAnalysisComplete","VideoId":"{media_id}","Size":{number}}}'.encode())

    assert (response.status_code, response.text) == (200, "ok")
    assert len(stored(receiver, media_id)) == 1


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_request_to_upgrade_the_protocol_is_ignored(receiver: Installation, protocol: str, chunked: bool) -> None:
    notifications = [new_notification() for _ in range(2)]
    statuses = []
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        for notification in notifications:
            content = json.dumps(notification).encode()
            upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
            framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(content))}
            headers = signed(content, url=receiver.callback_url) | upgrade | framing
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if chunked else content
            # The end of the body arrives later.
            connection.sendall(f"POST /callbacks HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode() + body[:10])
            connection.sendall(body[10:])
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            statuses.append(response.status)

    assert statuses == [200, 200]
    assert all(stored(receiver, notification["VideoId"]) for notification in notifications)
