"""The SDK behind our interface, against a server that answers whatever the test wants."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from worker.core.errors import ConfigurationError, VodCredentials, VodError, VodRefused, VodThrottled, VodUnavailable, VodUnreadable
from worker.settings import Source
from worker.vod import client as client_module
from worker.vod.client import Client, require_chain


class Server(ThreadingHTTPServer):
    """Answers with `status`, `body` and `headers`; remembers what it was asked and over how many connections."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.headers = 200, b'{"RequestId": "R"}', dict[str, str]()
        self.queries: list[dict[str, list[str]]] = []
        self.request_headers: list[dict[str, str]] = []
        self.connections = 0
        self.before: Callable[[Handler], bool] = lambda _handler: True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        server = self.server
        server.queries.append(parse_qs(urlsplit(self.path).query))
        server.request_headers.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if not server.before(self):
            self.close_connection = True
            return
        self.send_response(server.status)
        for name, value in {"Content-Length": str(len(server.body)), **server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def vod(server: Server) -> Client:
    return Client(
        Source(
            endpoint=f"http://127.0.0.1:{server.server_address[1]}",
            access_key_id="demoKeyId",
            access_key_secret=SecretStr("demoSecret"),
        )
    )


def test_the_answer_comes_whole_with_fields_that_no_document_mentions(server: Server, vod: Client) -> None:
    sent = {"RequestId": "R-1", "New": None, "MediaInfos": [{"MediaId": "a", "Size": 2**40, "Undocumented": {"x": [1, "2"]}}]}
    server.body = json.dumps(sent).encode()

    answer = vod.batch_get_media_infos(["a", "b"], ["ref-000001"])

    assert answer == sent
    assert server.queries == [{"MediaIds": ["a,b"], "ReferenceIds": ["ref-000001"]}]
    assert server.request_headers[0]["x-acs-action"] == "BatchGetMediaInfos"
    assert server.request_headers[0]["authorization"].startswith("ACS3-HMAC-SHA256 Credential=demoKeyId,")


def test_calls_share_a_connection(server: Server, vod: Client) -> None:
    for _ in range(5):
        vod.get_video_info("a")

    assert len(server.queries) == 5
    assert server.connections == 1


def refusal(code: str) -> bytes:
    return json.dumps({"RequestId": "R-9", "HostId": "h", "Code": code, "Message": "words"}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "Throttling.User", VodThrottled),
        (503, "Throttling", VodThrottled),
        (429, "TooMany", VodThrottled),
        (503, "ServiceUnavailable", VodUnavailable),
        (503, "ServiceUnAvailable", VodUnavailable),
        (500, "InternalError", VodUnavailable),
        (500, "SomethingNew", VodUnavailable),
        (400, "SignatureNonceUsed", VodUnavailable),
        (400, "InvalidTimeStamp.Expired", VodCredentials),
        (400, "SignatureDoesNotMatch", VodCredentials),
        (403, "SignatureDoesNotMatch", VodCredentials),
        (404, "InvalidAccessKeyId.NotFound", VodCredentials),
        (400, "InvalidAccessKeyId.Inactive", VodCredentials),
        (403, "InvalidSecurityToken.Expired", VodCredentials),
        (403, "Forbidden.RAM", VodCredentials),
        (403, "Forbidden", VodCredentials),
        (403, "OperationDenied.Suspended", VodCredentials),
        (403, "Forbidden.IllegalStatus", VodRefused),
        (404, "InvalidVideo.NotFound", VodRefused),
        (400, "InvalidParameter", VodRefused),
        (400, "VideoListExceededMax", VodRefused),
    ],
)
def test_errors_are_sorted_by_code_before_status(server: Server, vod: Client, status: int, code: str, kind: type[VodError]) -> None:
    server.status, server.body = status, refusal(code)

    with pytest.raises(VodError) as caught:
        vod.batch_get_media_infos(["a"])

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status, caught.value.request_id) == (code, status, "R-9")


def test_throttling_says_how_long_where_vod_does(server: Server, vod: Client) -> None:
    server.status, server.body, server.headers = 503, refusal("Throttling.User"), {"x-acs-retry-after": "1500"}

    with pytest.raises(VodThrottled) as caught:
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
def test_what_is_no_answer_of_vods_is_an_outage(server: Server, vod: Client, status: int, body: bytes) -> None:
    server.status, server.body = status, body

    with pytest.raises(VodUnavailable):
        vod.batch_get_media_infos(["a"])


@pytest.mark.parametrize("before", [lambda _handler: False, cut_off], ids=["reset", "cut off"])
def test_a_broken_connection_is_an_outage(server: Server, vod: Client, before: Callable[[Handler], bool]) -> None:
    server.before = before

    with pytest.raises(VodUnavailable):
        vod.batch_get_media_infos(["a"])


def test_a_refused_connection_is_an_outage(server: Server, vod: Client) -> None:
    server.shutdown()
    server.server_close()

    with pytest.raises(VodUnavailable):
        vod.batch_get_media_infos(["a"])


def test_a_silent_server_is_an_outage_after_the_time_out(
    server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(client_module, "_READ_TIMEOUT", 200)
    vod: Client = request.getfixturevalue("vod")
    released = threading.Event()
    server.before = lambda _handler: released.wait(5) and False

    with pytest.raises(VodUnavailable):
        vod.batch_get_media_infos(["a"])
    released.set()


def test_an_answer_with_broken_unicode_costs_a_field_not_the_answer(server: Server, vod: Client) -> None:
    server.body = b'{"RequestId": "R", "MediaInfos": [{"MediaId": "a", "MediaInfo": {"Title": "\\ud800 x"}}]}'

    answer = vod.batch_get_media_infos(["a"])

    assert answer["MediaInfos"][0]["MediaId"] == "a"


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        (b'"caf\xe9"', "caf\ufffd"),
        (b"123456789012.123456", "123456789012.123456"),
        (b"29.97", 29.97),
        (b"1e999", "1e999"),
        (b"1e-9999999999999999999", "1e-9999999999999999999"),
        (b"9" * 5000, "9" * 5000),
    ],
)
def test_a_value_that_is_not_quite_json_costs_nothing_else(server: Server, vod: Client, said: bytes, understood: object) -> None:
    server.body = b'{"RequestId":"R","MediaInfos":[{"MediaId":"a"},{"MediaId":"b","MediaInfo":{"Title":' + said + b"}}]}"

    answer = vod.batch_get_media_infos(["a", "b"])

    assert [element["MediaId"] for element in answer["MediaInfos"]] == ["a", "b"]
    assert answer["MediaInfos"][1]["MediaInfo"]["Title"] == understood


def test_an_answer_nested_without_end_is_unreadable(server: Server, vod: Client) -> None:
    server.body = b'{"MediaInfos":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    with pytest.raises(VodUnreadable):
        vod.batch_get_media_infos(["a"])


def test_the_sdk_prints_nothing_of_our_requests(
    server: Server, vod: Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    vod.batch_get_media_infos(["a"])

    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert "demoSecret" not in caplog.text


def test_without_keys_anywhere_the_sentence_names_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="ALIBABA_CLOUD_ACCESS_KEY_ID"):
        require_chain("default")
