"""Temporary keys (STS) are an access key with a token; VOD refuses one without the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from alibabacloud_credentials.client import Client as CredentialChain
from alibabacloud_credentials.models import Config

from worker import settings
from worker.vod.client import Client

KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "STS.demoKeyId", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "demoSecret"}


class VodServer(ThreadingHTTPServer):
    """Answers each call with an empty result and keeps the headers of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: VodServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = b'{"RequestId": "R", "MediaInfos": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[VodServer]:
    running = VodServer()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def client(server: VodServer, environment: dict[str, str]) -> Client:
    """The client of the default source, as the settings describe it."""
    loaded = settings.load(environ={"VODSYNC_ENDPOINT": server.endpoint, **environment})
    return Client(loaded.all_sources["default"])


def signed_headers(headers: dict[str, str]) -> list[str]:
    """The names of the headers that the signature covers."""
    fields = dict(field.split("=", 1) for field in headers["authorization"].removeprefix("ACS3-HMAC-SHA256 ").split(","))
    return fields["SignedHeaders"].split(";")


def test_the_token_of_temporary_keys_reaches_vod_signed(server: VodServer) -> None:
    vod = client(server, KEYS | {"ALIBABA_CLOUD_SECURITY_TOKEN": "demoToken"})

    vod.batch_get_media_infos(["a"])

    (headers,) = server.headers
    assert headers["x-acs-security-token"] == "demoToken"
    assert "Credential=STS.demoKeyId," in headers["authorization"]
    assert "x-acs-security-token" in signed_headers(headers)


def test_a_token_that_the_credential_chain_finds_reaches_vod_signed(server: VodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    role = Config(type="sts", access_key_id="STS.role", access_key_secret="demoSecret", security_token="tokenOfTheRole")
    monkeypatch.setattr("worker.vod.client.CredentialChain", lambda: CredentialChain(role))
    vod = client(server, {})

    vod.batch_get_media_infos(["a"])

    (headers,) = server.headers
    assert headers["x-acs-security-token"] == "tokenOfTheRole"
    assert "x-acs-security-token" in signed_headers(headers)


def test_permanent_keys_are_sent_without_a_token(server: VodServer) -> None:
    vod = client(server, KEYS)

    vod.batch_get_media_infos(["a"])

    assert "x-acs-security-token" not in server.headers[0]
