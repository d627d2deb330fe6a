"""Call VOD through its official SDK.

The SDK signs and finds credentials. Timeouts, decoding and the meaning of errors are ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import darabonba.core
from alibabacloud_credentials.client import Client as CredentialChain
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from alibabacloud_vod20170321.client import Client as Sdk
from darabonba.runtime import RuntimeOptions

from worker.core.errors import ConfigurationError, VodUnavailableError
from worker.core.listing import PAGE_ROWS, keep_application
from worker.settings import Source
from worker.vod import json_answers, sdk_errors, vendor_loggers

_CONNECT_TIMEOUT = 3_000  # milliseconds
_READ_TIMEOUT = 10_000  # milliseconds

vendor_loggers.silence()

_this_thread = threading.local()


class _Session(darabonba.core.Session):  # type: ignore[misc]  # the SDK is untyped
    """Record when a request is sent. The SDK signs it before that, and on a busy machine other threads run in between."""

    def send(self, request: Any, **options: Any) -> Any:
        _this_thread.sent_at = time.monotonic()
        return super().send(request, **options)


# The SDK has no hook for the moment of sending.
darabonba.core.Session = _Session


class Client:
    """One source's VOD. Threads may share it. The SDK's pooled sessions keep connections open."""

    def __init__(self, source: Source) -> None:
        config = Config(region_id=source.region, connect_timeout=_CONNECT_TIMEOUT, read_timeout=_READ_TIMEOUT)
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

    @property
    def sent_at(self) -> float:
        return getattr(_this_thread, "sent_at", 0.0)

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
        try:
            answer = self._sdk.call_api(params, OpenApiRequest(query=query), RuntimeOptions())
        except AlibabaCloudException as error:
            raise sdk_errors.from_response(error) from error
        except Exception as error:
            # Below HTTP (refused, reset, timed out, no JSON) the SDK raises exceptions of its own types without a code.
            raise VodUnavailableError(f"{action} got no answer: {sdk_errors.cause(error)}") from error
        self.is_warm = True
        self.server_time = _date(answer.get("headers") or {})
        return json_answers.decode(action, answer["body"])


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


def _date(headers: Mapping[str, str]) -> datetime | None:
    written = {name.lower(): value for name, value in headers.items()}.get("date")
    try:
        date = None if written is None else parsedate_to_datetime(written)
    except ValueError:
        return None
    # The zone "-0000" makes a time without a zone.
    return date.replace(tzinfo=UTC) if date and date.tzinfo is None else date
