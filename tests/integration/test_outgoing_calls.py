"""Proxies and certificates of calls to VOD and to the queue: the environment decides, and is the same for both."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from tests.integration.vod_server import EMPTY
from worker.core.errors import ConfigurationError, VodUnavailableError
from worker.settings import Source
from worker.vod import http_client
from worker.vod.client import Client
from worker.vod.smq import Queue

#: No name server knows this host, so a call that does not use the proxy fails.
FOREIGN_HOST = "vod.example.invalid"


class Server(ThreadingHTTPServer):
    """A server of VOD and of the queue. As a proxy, it answers for the other host itself. Records each request's target."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.targets: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self._answer(200, EMPTY)

    def do_GET(self) -> None:
        self._answer(404, b"<Error><Code>MessageNotExist</Code></Error>")

    def _answer(self, status: int, body: bytes) -> None:
        self.server.targets.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    http_client._ssl_context.cache_clear()
    yield
    http_client._ssl_context.cache_clear()


def source_at(endpoint: str) -> Source:
    return Source(
        endpoint=endpoint,
        smq_endpoint=endpoint,
        smq_queue="events",
        access_key_id="demoKeyId",
        access_key_secret=SecretStr("demoSecret"),
    )


CALLS: dict[str, Callable[[Source], object]] = {
    "VOD": lambda source: Client(source).batch_get_media_infos(["a"]),
    "queue": lambda source: Queue(source).check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_calls_use_the_proxy_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, call: Callable[[Source], object], name: str
) -> None:
    monkeypatch.setenv(name, f"http://{server.address}")

    call(source_at(f"http://{FOREIGN_HOST}"))

    assert server.targets[0].startswith(f"http://{FOREIGN_HOST}/")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_hosts_in_no_proxy_are_called_directly(
    server: Server, monkeypatch: pytest.MonkeyPatch, call: Callable[[Source], object]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{server.address}")
    monkeypatch.setenv("NO_PROXY", ".example.invalid")

    with pytest.raises(VodUnavailableError, match=FOREIGN_HOST):
        call(source_at(f"http://{FOREIGN_HOST}"))

    assert server.targets == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_called_through_a_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch, call: Callable[[Source], object], host: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    call(source_at(f"http://{host}:{server.server_address[1]}"))

    assert server.targets[0].startswith("/")


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy.example.org")

    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        Queue(source_at(f"http://{FOREIGN_HOST}"))


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that signs itself, with its key, and the same certificate as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, pair = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.write_bytes(private + authority.read_bytes())
    return authority, pair


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", None])
def test_a_private_authority_is_trusted_if_the_environment_names_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[[Source], object], name: str | None
) -> None:
    authority, pair = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server.socket = context.wrap_socket(server.socket, server_side=True)

    if name is None:
        with pytest.raises(VodUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            call(source_at(f"https://{server.address}"))
    else:
        monkeypatch.setenv(name, str(authority))
        call(source_at(f"https://{server.address}"))
        assert len(server.targets) == 1


def test_a_file_of_authorities_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))

    with pytest.raises(ConfigurationError, match=r"REQUESTS_CA_BUNDLE=.*missing\.pem cannot be read"):
        Queue(source_at("https://127.0.0.1"))
