"""Answers that VOD did not write, or wrote with the wrong status: what a gateway, a proxy or a broken server can send."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from tests.integration.vod_server import Handler, Server, client_of, running_server
from worker.core.errors import (
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.settings import Source
from worker.vod import http_client
from worker.vod.client import Client
from worker.vod.smq import Queue

CALLS: dict[str, Callable[[Client], object]] = {
    "BatchGetMediaInfos": lambda vod: vod.batch_get_media_infos(["a"]),
    "GetVideoInfo": lambda vod: vod.get_video_info("a"),
    "SearchMedia": lambda vod: vod.search_media("video", "", "CreationTime:Asc", 1),
    "GetMessageCallback": lambda vod: vod.get_message_callback(),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def vod(server: Server) -> Client:
    return client_of(server)


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b'{"error": "blocked by policy"}'),
        (404, b"{}"),
        (400, b'{"code": 17, "Code": null}'),
        (401, b"<html>sign in</html>"),
        (200, b"<html>sign in</html>"),
        (200, b'{"RequestId": "R"}'),
        (200, b'{"status": "ok"}'),
        (200, b"[]"),
        (200, b""),
        (204, b""),
    ],
)
def test_what_is_not_in_the_form_of_vod_is_an_outage_and_names_what_answered(
    server: Server, vod: Client, operation: str, status: int, body: bytes
) -> None:
    server.status, server.body, server.headers = status, body, {"Content-Type": "text/html"}

    with pytest.raises(VodUnavailableError) as caught:
        CALLS[operation](vod)

    # An unreadable answer would split the batch.
    assert type(caught.value) is VodUnavailableError
    assert f"{operation} was not answered by VOD (HTTP {status} from 127.0.0.1, BaseHTTP" in str(caught.value)
    assert "text/html" in str(caught.value)


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Throttling.User", VodThrottledError),
        ("InvalidAccessKeyId.NotFound", VodCredentialsError),
        ("InvalidVideo.NotFound", VodRefusedError),
        ("ServiceUnavailable", VodUnavailableError),
    ],
)
def test_the_code_of_an_error_counts_with_status_200_too(
    server: Server, vod: Client, operation: str, code: str, kind: type[VodError]
) -> None:
    server.body = json.dumps({"RequestId": "R-9", "Code": code, "Message": "words"}).encode()

    with pytest.raises(VodError) as caught:
        CALLS[operation](vod)

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.request_id) == (code, "R-9")


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(server: Server, vod: Client, operation: str, status: int) -> None:
    server.status, server.headers = status, {"Location": f"http://localhost:{server.server_address[1]}/?token=secret"}

    with pytest.raises(VodUnavailableError, match=rf"redirected to localhost \(HTTP {status} from 127.0.0.1") as caught:
        CALLS[operation](vod)

    assert len(server.queries) == 1
    assert "secret" not in str(caught.value)


def test_no_redirect_of_the_queue_is_followed(server: Server) -> None:
    server.status, server.headers = 302, {"Location": f"http://localhost:{server.server_address[1]}/?token=secret"}
    source = Source(
        smq_endpoint=f"http://127.0.0.1:{server.server_address[1]}",
        smq_queue="events",
        access_key_id="demoKeyId",
        access_key_secret=SecretStr("demoSecret"),
    )

    with pytest.raises(VodUnavailableError, match=r"redirected to localhost \(HTTP 302 from 127.0.0.1") as caught:
        Queue(source).check()

    assert len(server.queries) == 1
    assert "secret" not in str(caught.value)


def test_an_answer_of_one_byte_at_a_time_ends_at_the_deadline(server: Server, vod: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "DEADLINE", 0.5)
    ended = threading.Event()

    def drip(handler: Handler) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not ended.wait(0.05):
            try:
                handler.wfile.write(b"x")
            except OSError:
                break
        return False

    server.before = drip
    try:
        with pytest.raises(VodUnavailableError, match=r"no complete answer within 0\.5 s"):
            vod.batch_get_media_infos(["a"])
    finally:
        ended.set()

    server.before = lambda _handler: True
    assert vod.batch_get_media_infos(["a"])["MediaInfos"] == []


@pytest.mark.parametrize("encoding", ["identity", "gzip", "gzip, gzip"])
def test_an_answer_that_is_too_long_is_not_kept_in_memory(
    server: Server, vod: Client, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(http_client, "MAX_ANSWER_SIZE", 100_000)
    server.body, server.headers = b" " * 1_000_000, {"Content-Encoding": encoding}
    for _ in range(encoding.count("gzip")):
        server.body = gzip.compress(server.body)
    server.headers["Content-Length"] = str(len(server.body))

    with pytest.raises(VodUnavailableError, match=r"more than 100000 bytes|compressed several times"):
        vod.batch_get_media_infos(["a"])


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("body", [b"slow down", b'{"RequestId": "R", "Code": "ServiceUnavailable"}'])
@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("7", 7),
        ("100000", 300),
        ("9" * 400, 300),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 300),
    ],
)
def test_a_requested_pause_is_kept_within_bounds(
    server: Server, vod: Client, status: int, body: bytes, written: str, seconds: float
) -> None:
    server.status, server.body, server.headers = status, body, {"Retry-After": written}

    with pytest.raises(VodThrottledError) as caught:
        vod.batch_get_media_infos(["a"])

    assert caught.value.retry_after == seconds


def test_a_pause_until_a_date_counts_from_the_time_of_the_sender(server: Server, vod: Client) -> None:
    server.date = "Mon, 24 Nov 2025 16:00:00 GMT"
    server.status, server.body, server.headers = 503, b"busy", {"Retry-After": "Mon, 24 Nov 2025 16:00:30 GMT"}

    with pytest.raises(VodThrottledError) as caught:
        vod.batch_get_media_infos(["a"])

    assert caught.value.retry_after == 30


@pytest.mark.parametrize("written", ["-5", "0", "soon", "", "Sat, 01 Jan 2000 00:00:00 GMT"])
def test_a_pause_that_is_not_valid_is_ignored(server: Server, vod: Client, written: str) -> None:
    server.status, server.body, server.headers = 503, b"busy", {"Retry-After": written}

    with pytest.raises(VodUnavailableError, match="HTTP 503"):
        vod.batch_get_media_infos(["a"])


def test_a_broken_object_is_unreadable_because_one_asset_can_be_the_cause(server: Server, vod: Client) -> None:
    server.body = b'{"RequestId": "R", "MediaInfos": [{"MediaId": '

    with pytest.raises(VodUnreadableError):
        vod.batch_get_media_infos(["a"])
