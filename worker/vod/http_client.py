"""Make HTTP calls with a deadline, a size limit, no redirects, and the proxies and certificates of the environment."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from worker.core.errors import ConfigurationError, VodUnavailableError, describe_error
from worker.core.urls import storable

CONNECT_TIMEOUT = 3.0  # seconds
READ_TIMEOUT = 10.0  # seconds between two parts of an answer
DEADLINE = 15.0  # seconds for a whole call
MAX_ANSWER_SIZE = 64 * 2**20  # bytes, received and unpacked

_CHECK_INTERVAL = 0.5  # seconds between two looks at the deadlines

#: Variables that name a file with further certificate authorities. OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

#: Hosts that are never called through a proxy.
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a call. Header names are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def origin(self) -> str:
        """The HTTP status and what answered, for messages about answers that are not VOD's."""
        parts = [f"HTTP {self.status} from {httpx.URL(self.url).host}"]
        parts += [self.headers[name][:80] for name in ("server", "content-type") if self.headers.get(name)]
        return ", ".join(parts)


class HttpClient:
    """One connection that stays open. One thread calls at a time; any other thread may call `abort`."""

    def __init__(self) -> None:
        self._http = open_http_client(limits=httpx.Limits(max_connections=1))
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        #: Why the current call, or the next one, must end.
        self._abort_reason: str | None = None

    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        read_timeout: float = READ_TIMEOUT,
        deadline: float | None = None,
        max_size: int | None = None,
    ) -> Response:
        """Return the answer, whatever its status is, except a redirect. Times are in seconds, `max_size` in bytes.

        The defaults of `deadline` and `max_size` are DEADLINE and MAX_ANSWER_SIZE.

        Raises VodUnavailableError if there is no complete answer in time, if it is too long, and if it redirects to another place.
        Its `status` is that of the redirect.
        """
        deadline, max_size = deadline or DEADLINE, max_size or MAX_ANSWER_SIZE
        timeout = httpx.Timeout(read_timeout, connect=CONNECT_TIMEOUT)
        _watchdog.watch(self, time.monotonic() + deadline, f"no complete answer within {deadline:g} s")
        try:
            self._raise_if_aborted()
            with self._http.stream(
                method, url, content=content, headers=dict(headers), timeout=timeout, extensions={"trace": self._trace}
            ) as answer:
                response = Response(url, answer.status_code, dict(answer.headers), _read(answer, max_size))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self._raise_if_aborted(error)
            raise VodUnavailableError(_reason(url, error)) from error
        finally:
            _watchdog.forget(self)
            with self._lock:
                self._abort_reason = None
        if 300 <= response.status < 400:
            raise _redirected(response)
        return response

    def abort(self, reason: str) -> None:
        """End the current call at once, or the next one if there is none. It raises VodUnavailableError with `reason`."""
        with self._lock:
            self._abort_reason = reason
            self._shut_down()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _raise_if_aborted(self, cause: Exception | None = None) -> None:
        with self._lock:
            reason = self._abort_reason
        if reason is not None:
            raise VodUnavailableError(reason) from cause

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the connection that httpx opened, because shutting it down ends a call at once."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._abort_reason is not None:
                    self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would drop the TLS state first, while another thread reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watchdog:
    """Aborts calls that pass their deadline. Timeouts of the socket alone do not end an answer of one byte a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[HttpClient, tuple[float, str]] = {}
        self._is_running = False

    def watch(self, client: HttpClient, deadline: float, reason: str) -> None:
        with self._lock:
            self._deadlines[client] = deadline, reason
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="http-deadlines", daemon=True).start()

    def forget(self, client: HttpClient) -> None:
        with self._lock:
            self._deadlines.pop(client, None)

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_INTERVAL)
            with self._lock:
                now = time.monotonic()
                for client, (deadline, reason) in self._deadlines.items():
                    if deadline < now:
                        # Inside the lock: the call cannot end now and another one begin.
                        client.abort(reason)
                if not self._deadlines:
                    self._is_running = False
                    return


_watchdog = _Watchdog()


def open_http_client(**options: Any) -> httpx.Client:
    """Return a client for one kind of call; `options` are those of httpx.Client. Any: they have many types.

    It uses HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, and never a proxy for this machine itself. Certificates are verified
    against the authorities of the system, of `certifi`, and in SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.
    Raises ConfigurationError if one of these is not usable.
    """
    try:
        return httpx.Client(verify=_ssl_context(), follow_redirects=False, mounts=dict.fromkeys(_LOOPBACK), **options)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ConfigurationError(
            f"the proxies in the environment cannot be used ({error}); correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"
        ) from error


@cache
def _ssl_context() -> ssl.SSLContext:
    # With the authorities of `certifi`. The system's are added, because a company installs its own there.
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    for name in ("SSL_CERT_FILE", *_CA_VARIABLES):
        path = os.environ.get(name)
        if not path:
            continue
        try:
            context.load_verify_locations(**({"capath": path} if os.path.isdir(path) else {"cafile": path}))
        except OSError as error:
            raise ConfigurationError(f"{name}={path} cannot be read; name a file with certificates in PEM form") from error
    return context


def _read(answer: httpx.Response, max_size: int) -> bytes:
    if "," in answer.headers.get("content-encoding", ""):
        # Each layer can multiply the size by a thousand.
        raise VodUnavailableError("the answer is compressed several times")
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if max(size, answer.num_bytes_downloaded) > max_size:
            raise VodUnavailableError(f"the answer has more than {max_size} bytes")
        parts.append(part)
    return b"".join(parts)


def _redirected(response: Response) -> VodUnavailableError:
    """Return the error for a redirect. A token must not reach another host."""
    host = urlsplit(response.headers.get("location", "")).hostname or "another path"
    return VodUnavailableError(
        f"redirected to {storable(host)} ({response.origin}), and vodsync follows no redirect; check the endpoint and "
        "the proxies of this machine",
        status=response.status,
    )


def _reason(url: str, error: Exception) -> str:
    """Return what failed and the host, without the query of the URL."""
    return f"{httpx.URL(url).host}: {describe_error(error)}"
