"""Call VOD through its official SDK.

The SDK signs and finds credentials. Timeouts, decoding and the meaning of errors are ours.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import darabonba.core
from alibabacloud_credentials.client import Client as CredentialChain
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from alibabacloud_tea_openapi.utils import Utils
from alibabacloud_vod20170321.client import Client as Sdk
from darabonba.runtime import RuntimeOptions

from worker.core.errors import ConfigurationError, VodError, VodUnavailableError, describe_error
from worker.core.listing import PAGE_ROWS, keep_application
from worker.core.urls import storable
from worker.settings import Source
from worker.vod import answers, vendor_loggers
from worker.vod.http_client import HttpClient, Response

_MAX_MESSAGE_LENGTH = 200  # characters of an exception of the SDK

vendor_loggers.silence()


class _ThisThread(threading.local):
    """The call of this thread. Between the SDK, which signs, and us."""

    #: None outside of our calls: other code of this process may use the SDK in its own way.
    http: HttpClient | None = None
    sent_at = 0.0
    #: The answer to the last request, or why there is none.
    result: Response | VodError | None = None


_this_thread = _ThisThread()


class _Session(darabonba.core.Session):  # type: ignore[misc]  # the SDK is untyped
    """Send what the SDK has signed. The SDK itself would follow redirects, and has no deadline and no limit of size."""

    def send(self, request: Any, **options: Any) -> Any:
        http = _this_thread.http
        if http is None:
            return super().send(request, **options)
        # The SDK signed the request before. On a busy machine other threads run in between.
        _this_thread.sent_at = time.monotonic()
        try:
            _this_thread.result = http.call(request.method, request.url, headers=request.headers, content=request.body or b"")
        except VodError as error:
            _this_thread.result = error
        return _Sent()


class _Sent:
    """An empty answer for the SDK, which must not interpret the real one."""

    status_code = 200
    reason = "OK"
    headers: Mapping[str, str] = {}
    content = b""


# The SDK has no hooks for the two. Its own nonce needs MD5, which does not exist on a machine in FIPS mode.
darabonba.core.Session = _Session
Utils.get_nonce = staticmethod(lambda: secrets.token_hex(16))


class Client:
    """One source's VOD. Threads may share it. Each thread keeps a connection open."""

    def __init__(self, source: Source) -> None:
        config = Config(region_id=source.region)
        if source.access_key_id and source.access_key_secret:
            config.access_key_id = source.access_key_id
            config.access_key_secret = source.access_key_secret.get_secret_value()
            if source.security_token:
                config.security_token = source.security_token.get_secret_value()
        else:
            config.credential = CredentialChain()
        #: VOD's clock in its last answer. None before the first, and if the answer had no date.
        self.server_time: datetime | None = None
        self.is_warm = False
        self._app_id = source.app_id
        self._protocol = "HTTPS"
        if source.endpoint:
            parts = urlsplit(source.endpoint)
            config.endpoint = parts.netloc
            self._protocol = parts.scheme.upper()
        config.protocol = self._protocol
        self._sdk = Sdk(config)
        self._connections = threading.local()
        # Here, so that a proxy or certificate file that cannot be used is found at the start.
        self._connections.of_thread = HttpClient()

    @property
    def sent_at(self) -> float:
        return _this_thread.sent_at

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        query = {"MediaIds": ",".join(media_ids), "ReferenceIds": ",".join(reference_ids)}
        return self._call("BatchGetMediaInfos", {name: value for name, value in query.items() if value})

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        return self._call("GetVideoInfo", {"VideoId": media_id})

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        query = {
            "SearchType": search_type,
            "Match": match,
            "SortBy": sort_by,
            "PageNo": str(page),
            "PageSize": str(PAGE_ROWS),
            "Fields": "CreationTime,ModificationTime,Status" + (",AppId" if self._app_id else ""),
        }
        answer = self._call("SearchMedia", {name: value for name, value in (query | {"ScrollToken": token}).items() if value})
        # The documents do not name a search filter for an application.
        return keep_application(self._app_id, answer) if self._app_id else answer

    def get_message_callback(self) -> dict[str, Any]:
        """Return the callback settings at VOD (vod-protocol 1.4). The answer can contain the authentication key."""
        return self._call("GetMessageCallback", {"AppId": self._app_id} if self._app_id else {})

    def _call(self, action: str, query: dict[str, str]) -> dict[str, Any]:
        params = Params(
            action=action,
            version="2017-03-21",
            protocol=self._protocol,
            pathname="/",
            method="POST",
            auth_type="AK",
            style="RPC",
            req_body_type="formData",
            # The SDK's typed models drop unknown fields and nulls. The bytes are what VOD sent.
            body_type="byte",
        )
        _this_thread.http, _this_thread.result = self._connection(), None
        try:
            self._sdk.call_api(params, OpenApiRequest(query=query), RuntimeOptions())
        except Exception as error:
            # The SDK raises exceptions of several types, for example if its credential chain fails.
            raise VodUnavailableError(f"{action} could not be called: {_cause(error)}") from error
        finally:
            _this_thread.http = None
        response = _this_thread.result
        if isinstance(response, VodError):
            raise VodUnavailableError(f"{action} got no answer: {response}", status=response.status) from response
        if response is None:
            raise VodUnavailableError(f"{action} was not sent by the vendor's SDK; install the versions that vodsync requires")
        self.is_warm = True
        self.server_time = answers.date(response)
        return answers.interpret(action, response)

    def _connection(self) -> HttpClient:
        """Return the connection of this thread."""
        try:
            connection: HttpClient = self._connections.of_thread
        except AttributeError:
            connection = self._connections.of_thread = HttpClient()
        return connection


def require_credential_chain(source_name: str) -> None:
    """Raise ConfigurationError for the source `source_name` if the vendor's credential chain finds no access key."""
    try:
        credential = CredentialChain().get_credential()
    except Exception as error:
        raise ConfigurationError(
            f"source {source_name}: no credentials for VOD; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET "
            "(or give this machine a RAM role, OIDC role or profile that the vendor's credential chain finds)"
        ) from error
    if not credential or not credential.access_key_id:
        raise ConfigurationError(
            f"source {source_name}: the vendor's credential chain found no access key; set ALIBABA_CLOUD_ACCESS_KEY_ID"
        )


def _cause(error: BaseException) -> str:
    """Return type and message of the innermost exception, without the SDK's wrappers around it."""
    seen = {id(error)}
    while (inner := getattr(error, "inner_exception", None) or error.__cause__ or _context(error)) and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return storable(describe_error(error))[:_MAX_MESSAGE_LENGTH]


def _context(error: BaseException) -> BaseException | None:
    return None if error.__suppress_context__ else error.__context__
