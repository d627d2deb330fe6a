"""The client of VOD, with the real SDK, against a local server whose answers the test sets."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.vod_server import Handler, Server, client_of, running_server
from worker.core.errors import (
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.listing import read_page
from worker.vod import http_client
from worker.vod.client import Client


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def vod(server: Server) -> Client:
    return client_of(server)


def test_the_answer_has_every_field_that_vod_sent(server: Server, vod: Client) -> None:
    sent = {"RequestId": "R-1", "New": None, "MediaInfos": [{"MediaId": "a", "Size": 2**40, "Undocumented": {"x": [1, "2"]}}]}
    server.body = json.dumps(sent).encode()

    answer = vod.batch_get_media_infos(["a", "b"], ["ref-000001"])

    assert answer == sent
    assert server.queries == [{"MediaIds": ["a,b"], "ReferenceIds": ["ref-000001"]}]
    assert server.request_headers[0]["x-acs-action"] == "BatchGetMediaInfos"
    assert server.request_headers[0]["authorization"].startswith("ACS3-HMAC-SHA256 Credential=demoKeyId,")


def test_the_time_of_sending_is_known_for_each_thread(server: Server, vod: Client) -> None:
    def pause(_handler: Handler) -> bool:
        time.sleep(0.2)
        return True

    server.before = pause
    began = time.monotonic()

    vod.batch_get_media_infos(["a"])

    assert began < vod.sent_at <= time.monotonic() - 0.2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: vod.sent_at).result() == 0


def test_calls_share_a_connection(server: Server, vod: Client) -> None:
    for _ in range(5):
        vod.get_video_info("a")

    assert len(server.queries) == 5
    assert server.connections == 1


def refusal(code: str) -> bytes:
    return json.dumps({"RequestId": "R-9", "HostId": "h", "Code": code, "Message": "words"}).encode()


def test_code_and_request_id_of_an_error_are_storable_and_short(server: Server, vod: Client) -> None:
    server.status = 400
    server.body = b'{"RequestId": "R\\ud800\\u0000", "Code": "Invalid\\ud800\\u0000' + b"X" * 5000 + b'", "Message": "words"}'

    with pytest.raises(VodRefusedError) as raised:
        vod.batch_get_media_infos(["a"])

    for text in (str(raised.value), raised.value.code, raised.value.request_id):
        assert text.encode()
        assert "\0" not in text
        assert len(text) < 300


@pytest.mark.parametrize(("after", "seconds"), [("1500", 1.5), ("99999999999999999999", 300), ("9" * 400, 300), ("-5", None)])
def test_vod_cannot_request_a_pause_of_more_than_five_minutes(
    server: Server, vod: Client, after: str, seconds: float | None
) -> None:
    server.status, server.body = 400, refusal("Throttling.User")
    server.headers["x-acs-retry-after"] = after

    with pytest.raises(VodThrottledError) as raised:
        vod.batch_get_media_infos(["a"])

    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "Throttling.User", VodThrottledError),
        (503, "Throttling", VodThrottledError),
        (429, "TooMany", VodThrottledError),
        (503, "ServiceUnavailable", VodUnavailableError),
        (503, "ServiceUnAvailable", VodUnavailableError),
        (500, "InternalError", VodUnavailableError),
        (500, "SomethingNew", VodUnavailableError),
        (400, "SignatureNonceUsed", VodUnavailableError),
        (400, "InvalidTimeStamp.Expired", VodCredentialsError),
        (400, "SignatureDoesNotMatch", VodCredentialsError),
        (403, "SignatureDoesNotMatch", VodCredentialsError),
        (404, "InvalidAccessKeyId.NotFound", VodCredentialsError),
        (400, "InvalidAccessKeyId.Inactive", VodCredentialsError),
        (403, "InvalidSecurityToken.Expired", VodCredentialsError),
        (403, "Forbidden.RAM", VodCredentialsError),
        (403, "Forbidden", VodCredentialsError),
        (403, "OperationDenied.Suspended", VodCredentialsError),
        (403, "Forbidden.IllegalStatus", VodRefusedError),
        (404, "InvalidVideo.NotFound", VodRefusedError),
        (400, "InvalidParameter", VodRefusedError),
        (400, "VideoListExceededMax", VodRefusedError),
    ],
)
def test_errors_are_classified_by_code_before_status(
    server: Server, vod: Client, status: int, code: str, kind: type[VodError]
) -> None:
    server.status, server.body = status, refusal(code)

    with pytest.raises(VodError) as caught:
        vod.batch_get_media_infos(["a"])

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status, caught.value.request_id) == (code, status, "R-9")


def test_a_throttling_error_has_the_pause_that_vod_requested(server: Server, vod: Client) -> None:
    server.status, server.body, server.headers = 503, refusal("Throttling.User"), {"x-acs-retry-after": "1500"}

    with pytest.raises(VodThrottledError) as caught:
        vod.batch_get_media_infos(["a"])

    assert caught.value.retry_after == 1.5


def cut_off(handler: Handler) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"RequestId"')
    return False


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>busy</html>"), (200, b""), (200, b"[]"), (200, b'{"cut'), (502, b"<html>Bad Gateway</html>"), (504, b"")],
)
def test_an_answer_that_is_not_from_vod_is_an_outage(server: Server, vod: Client, status: int, body: bytes) -> None:
    server.status, server.body = status, body

    with pytest.raises(VodUnavailableError):
        vod.batch_get_media_infos(["a"])


@pytest.mark.parametrize("before", [lambda _handler: False, cut_off], ids=["reset", "cut off"])
def test_a_broken_connection_is_an_outage(server: Server, vod: Client, before: Callable[[Handler], bool]) -> None:
    server.before = before

    with pytest.raises(VodUnavailableError):
        vod.batch_get_media_infos(["a"])


def test_the_page_of_a_gateway_is_named_in_the_error(server: Server, vod: Client) -> None:
    server.status, server.body = 502, b"<html>Bad Gateway</html>"

    with pytest.raises(VodUnavailableError) as caught:
        vod.batch_get_media_infos(["a"])

    assert "Expecting value" in str(caught.value) or "502" in str(caught.value)
    assert "StopIteration" not in str(caught.value)


def test_a_date_without_a_zone_is_utc(server: Server, vod: Client) -> None:
    server.date = "Sat, 21 Nov 2026 12:00:00 -0000"

    vod.batch_get_media_infos(["a"])

    assert vod.server_time == datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_refused_connection_is_an_outage(server: Server, vod: Client) -> None:
    server.shutdown()
    server.server_close()

    with pytest.raises(VodUnavailableError):
        vod.batch_get_media_infos(["a"])


def test_a_server_that_does_not_answer_is_an_outage_after_the_timeout(
    server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(http_client, "DEADLINE", 0.2)
    vod: Client = request.getfixturevalue("vod")
    released = threading.Event()
    server.before = lambda _handler: released.wait(5) and False

    with pytest.raises(VodUnavailableError):
        vod.batch_get_media_infos(["a"])
    released.set()


def test_an_answer_with_a_lone_surrogate_is_decoded(server: Server, vod: Client) -> None:
    server.body = b'{"RequestId": "R", "MediaInfos": [{"MediaId": "a", "MediaInfo": {"Title": "\\ud800 x"}}]}'

    answer = vod.batch_get_media_infos(["a"])

    assert answer["MediaInfos"][0]["MediaId"] == "a"


@pytest.mark.parametrize(
    ("written", "decoded"),
    [
        (b'"caf\xe9"', "caf\ufffd"),
        (b"123456789012.123456", "123456789012.123456"),
        (b"29.97", 29.97),
        (b"1e999", "1e999"),
        (b"1e-9999999999999999999", "1e-9999999999999999999"),
        (b"9" * 5000, "9" * 5000),
    ],
)
def test_a_value_that_is_not_valid_json_does_not_affect_the_others(
    server: Server, vod: Client, written: bytes, decoded: object
) -> None:
    server.body = b'{"RequestId":"R","MediaInfos":[{"MediaId":"a"},{"MediaId":"b","MediaInfo":{"Title":' + written + b"}}]}"

    answer = vod.batch_get_media_infos(["a", "b"])

    assert [element["MediaId"] for element in answer["MediaInfos"]] == ["a", "b"]
    assert answer["MediaInfos"][1]["MediaInfo"]["Title"] == decoded


def test_an_answer_with_endless_nesting_is_unreadable(server: Server, vod: Client) -> None:
    server.body = b'{"MediaInfos":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    with pytest.raises(VodUnreadableError):
        vod.batch_get_media_infos(["a"])


def test_the_sdk_prints_nothing(
    server: Server, vod: Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    vod.batch_get_media_infos(["a"])

    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert "demoSecret" not in caplog.text


def test_a_source_with_an_application_ignores_assets_of_other_applications(server: Server, vod: Client) -> None:
    rows: list[Any] = [
        {"MediaId": "ours", "Video": {"AppId": "app-1", "CreationTime": "2026-03-01T12:00:00Z"}},
        {"MediaId": "theirs", "Video": {"AppId": "app-2"}},
        {"MediaId": "theirs-too", "Audio": {"AppId": "app-2"}},
        {"MediaId": "unnamed", "Audio": {"Title": "x"}},
        {"MediaId": "empty", "Video": {"AppId": ""}},
        {"MediaId": "odd", "Video": {"AppId": ["app-2"]}},
        None,
    ]
    server.body = json.dumps({"Total": 7, "ScrollToken": "t", "MediaList": rows}).encode()

    all_rows = read_page(vod.search_media("video", "", "CreationTime:Asc", 1))
    page = read_page(client_of(server, app_id="app-1").search_media("video", "", "CreationTime:Asc", 1))

    assert [query["Fields"] for query in server.queries] == [
        ["CreationTime,ModificationTime,Status"],
        ["CreationTime,ModificationTime,Status,AppId"],
    ]
    assert len(all_rows.rows) == 6
    assert [row.media_id for row in page.rows] == ["ours", "unnamed", "empty", "odd"]
    assert (page.length, page.total, page.token) == (7, 7, "t")


@pytest.mark.parametrize("body", [b'{"MediaList": null, "Total": 0}', b'{"MediaList": {}}'])
def test_an_answer_without_a_list_is_unchanged_for_an_application(server: Server, body: bytes) -> None:
    server.body = body

    assert client_of(server, app_id="app-1").search_media("video", "", "CreationTime:Asc", 1) == json.loads(body)


def test_callback_settings_are_requested_for_the_application(server: Server, vod: Client) -> None:
    vod.get_message_callback()
    client_of(server, app_id="app-1").get_message_callback()

    assert server.queries == [{}, {"AppId": ["app-1"]}]
