"""VOD through its official SDK: signing and credentials are the vendor's, time-outs and the meaning of errors are ours."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import darabonba.core
import msgspec
from alibabacloud_credentials.client import Client as CredentialChain
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from alibabacloud_vod20170321.client import Client as Sdk
from darabonba.runtime import RuntimeOptions

from worker.core import lenient_json
from worker.core.errors import (
    ConfigurationError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.listing import PAGE_ROWS, keep_application
from worker.core.urls import storable
from worker.settings import Source

# Importing the SDK gives these loggers handlers of their own, one of them at DEBUG, which print whole requests and tracebacks
# (vod-protocol 8.2). What they would say reaches us as an exception.
for _name in ("darabonba", "credentials"):
    _library = logging.getLogger(_name)
    _library.handlers.clear()
    _library.setLevel(logging.CRITICAL)

_this_thread = threading.local()


class _Session(darabonba.core.Session):  # type: ignore[misc]
    """Notes when a request leaves: before that the SDK signs it, and on a busy machine other threads go first."""

    def send(self, request: Any, **options: Any) -> Any:
        _this_thread.left_at = time.monotonic()
        return super().send(request, **options)


# The SDK says nowhere when it sends.
darabonba.core.Session = _Session


def _float_or_text(written: str) -> float | str:
    """A number that a binary fraction does not keep stays a text."""
    number = float(written)
    try:
        return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(written) else written
    except InvalidOperation:
        # An exponent that no decimal has either.
        return written


_decode_exactly = msgspec.json.Decoder(float_hook=_float_or_text).decode

#: Characters of what VOD, or what lies before it, says; the longest pause that it can ask for, in seconds.
_CAUSE_LENGTH, _ID_LENGTH, _PAUSE = 200, 64, 300.0

#: Milliseconds.
_CONNECT_TIMEOUT, _READ_TIMEOUT = 3_000, 10_000

# vod-protocol 4.4: codes are reliable, statuses differ from page to page.
_UNAVAILABLE = ("ServiceUnavailable", "ServiceUnAvailable", "InternalError", "SignatureNonceUsed")
_CREDENTIALS = (
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "SignatureDoesNotMatch",
    "InvalidSecurityToken",
    "MissingSecurityToken",
    "InvalidTimeStamp",
    "OperationDenied",
    "InvalidCredentials",
)
# "Forbidden" alone and Forbidden.RAM speak of rights; Forbidden.IllegalStatus speaks of one medium.
_FORBIDDEN = ("Forbidden", "Forbidden.RAM", "NoPermission")


class Client:
    """One source's VOD. Threads may share it; connections are kept open by the SDK's pooled sessions."""

    def __init__(self, source: Source) -> None:
        config = Config(region_id=source.region, connect_timeout=_CONNECT_TIMEOUT, read_timeout=_READ_TIMEOUT)
        if source.access_key_id and source.access_key_secret:
            config.access_key_id = source.access_key_id
            config.access_key_secret = source.access_key_secret.get_secret_value()
            if source.security_token:
                config.security_token = source.security_token.get_secret_value()
        else:
            config.credential = CredentialChain()
        #: VOD's clock when it answered the last call; None where it did not say.
        self.answered_at: datetime | None = None
        self.warm = False
        self._app_id = source.app_id
        self._protocol = "HTTPS"
        if source.endpoint:
            parts = urlsplit(source.endpoint)
            config.endpoint = parts.netloc
            self._protocol = parts.scheme.upper()
        config.protocol = self._protocol
        self._sdk = Sdk(config)

    @property
    def left_at(self) -> float:
        return getattr(_this_thread, "left_at", 0.0)

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
        # Whether a search can be limited to an application is not documented.
        return keep_application(self._app_id, answer) if self._app_id else answer

    def get_message_callback(self) -> dict[str, Any]:
        """What is configured at VOD (vod-protocol 1.4); the answer may hold the authentication key."""
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
            # The SDK's own models drop unknown fields and nulls; we want what VOD sent.
            body_type="byte",
        )
        try:
            answer = self._sdk.call_api(params, OpenApiRequest(query=query), RuntimeOptions())
        except AlibabaCloudException as error:
            raise _sort(error) from error
        except Exception as error:
            # The SDK wraps whatever went wrong below HTTP (refused, reset, timed out, no JSON) in types of its own without a code.
            raise VodUnavailableError(f"{action} got no answer: {_cause(error)}") from error
        self.warm = True
        self.answered_at = _date(answer.get("headers") or {})
        return _decode(action, answer["body"])


def require_chain(name: str) -> None:
    """Raises ConfigurationError where the vendor's credential chain finds no key for the source `name`."""
    try:
        found = CredentialChain().get_credential()
    except Exception as error:
        raise ConfigurationError(
            f"source {name}: no credentials for VOD; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET "
            "(or give this machine a RAM role, OIDC role or profile that the vendor's credential chain finds)"
        ) from error
    if not found or not found.access_key_id:
        raise ConfigurationError(
            f"source {name}: the vendor's credential chain gave no access key; set ALIBABA_CLOUD_ACCESS_KEY_ID"
        )


def _sort(error: AlibabaCloudException) -> VodError:
    """By the prefix of the code first, by the status second (vod-protocol 4.4)."""
    code, status = storable(str(error.code or ""))[:_CAUSE_LENGTH], _status(error)
    data: Mapping[str, Any] = error.data if isinstance(getattr(error, "data", None), Mapping) else {}
    request_id = storable(str(getattr(error, "request_id", None) or data.get("RequestId") or ""))[:_ID_LENGTH]
    fields: dict[str, Any] = {"code": code, "status": status, "request_id": request_id}
    if code.startswith("Throttling") or status == 429:
        return VodThrottledError(
            f"VOD throttled the call: {code}", retry_after=_pause(getattr(error, "retry_after", None)), **fields
        )
    if code.startswith(_UNAVAILABLE):
        return VodUnavailableError(f"VOD is not available: {code}", **fields)
    if code.startswith("InvalidTimeStamp"):
        return VodCredentialsError(f"VOD says that this machine's clock is off ({code}); set it by NTP", **fields)
    if code.startswith(_CREDENTIALS) or code in _FORBIDDEN:
        return VodCredentialsError(f"VOD does not let this account call: {code}; check its keys, RAM rights and bill", **fields)
    if status is not None and 400 <= status < 500 and code:
        return VodRefusedError(f"VOD refused the call: {code}", **fields)
    return VodUnavailableError(f"VOD is not available: HTTP {status} {code}".rstrip(), **fields)


def _pause(milliseconds: int | None) -> float | None:
    """The seconds that VOD wants to be left alone, within reason."""
    if not milliseconds or milliseconds < 0:
        return None
    # Before the division: a header may hold more digits than any float.
    return min(milliseconds, int(_PAUSE * 1000)) / 1000


def _date(headers: Mapping[str, str]) -> datetime | None:
    said = {name.lower(): value for name, value in headers.items()}.get("date")
    try:
        told = None if said is None else parsedate_to_datetime(said)
    except ValueError:
        return None
    # "-0000" makes a time without a zone.
    return told.replace(tzinfo=UTC) if told and told.tzinfo is None else told


def _status(error: AlibabaCloudException) -> int | None:
    try:
        return int(error.status_code)
    except (AttributeError, TypeError, ValueError):
        return None


def _context(error: BaseException) -> BaseException | None:
    return None if error.__suppress_context__ else error.__context__


def _cause(error: BaseException) -> str:
    """What went wrong below the SDK's own wrappers."""
    seen = {id(error)}
    while (inner := getattr(error, "inner_exception", None) or error.__cause__ or _context(error)) and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return storable(f"{type(error).__name__}: {error}")[:_CAUSE_LENGTH]


def _decode(action: str, body: Any) -> dict[str, Any]:
    text = bytes(body) if not isinstance(body, str) else body.encode()
    try:
        value = _decode_exactly(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # What msgspec is too strict for (lone surrogates, other encodings) costs a field later, not the whole answer.
        try:
            value = lenient_json.loads(text.decode("utf-8", errors="replace"), constant=str, strict=False)
        except (ValueError, RecursionError):
            raise VodUnreadableError(f"{action} answered with something that is not JSON ({len(text)} bytes)") from None
    if not isinstance(value, dict):
        raise VodUnreadableError(f"{action} answered with JSON that is not an object")
    return value
