"""Receive and delete messages of the queue to which VOD writes events (MNS, now "Simple Message Queue")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import httpx

from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.settings import Source
from worker.vod import smq_xml
from worker.vod.credentials import access_key_provider
from worker.vod.http_client import HttpClient
from worker.vod.smq_xml import Fault, Message, SmqXmlError

MAX_MESSAGES = 16  # messages that one call receives or deletes (vod-protocol 3.2)

_MAX_ANSWER_SIZE = 8 * 2**20  # bytes; sixteen messages of 64 KiB in which every character is escaped

#: Seconds beyond the duration of a long poll. With a poll of 20 s this makes the 35 s that the vendor recommends.
_READ_TIMEOUT = 15.0

_CONTENT_TYPE = "text/xml;charset=utf-8"
_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"

#: The receipt is no longer valid: the message was deleted, or was received again since.
_EXPIRED = ("MessageNotExist", "ReceiptHandleError")
_CREDENTIALS = (
    "InvalidAccessKeyId",
    "AccessDenied",
    "SignatureDoesNotMatch",
    "InvalidSecurityToken",
    "SecurityTokenExpired",
    "InvalidAuthorizationHeader",
    "MissingAuthorizationHeader",
)
_CLOCK = ("InvalidDateHeader", "TimeExpired")
_UNAVAILABLE = ("InternalError", "InternalServerError", "ServiceUnavailable", "QpsLimitExceeded", "Throttling")

#: Codes that are recognised in any text, because some errors are plain text (vod-protocol 3.2).
_KNOWN_CODE = re.compile(rb"\b(?:%s)\b" % "|".join(("QueueNotExist", *_EXPIRED, *_CREDENTIALS, *_CLOCK)).encode())


def sign(secret: str, method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return the signature of one call (vod-protocol 3.3).

    Header names are lower case. `target` is the path with the query, as sent.
    """
    mns_headers = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-mns-"))
    signed = [method, headers.get("content-md5", ""), headers["content-type"], headers["date"], mns_headers + target]
    return base64.b64encode(hmac.new(secret.encode(), "\n".join(signed).encode(), hashlib.sha1).digest()).decode()


class Queue:
    """The queue of one source. One thread receives and deletes; any other thread may call `interrupt`.

    `warn` is called like the method of a logger, once for each undocumented behaviour that the queue shows.
    """

    def __init__(self, source: Source, *, warn: Callable[..., object] = lambda *_, **__: None) -> None:
        self.name = source.smq_queue or ""
        self._endpoint = source.smq_endpoint or ""
        self._access_key = access_key_provider(source)
        self._http = HttpClient()
        self._lock = threading.Lock()
        self._is_polling = False
        self._is_interrupted = False
        self._warn = warn
        self._has_warned_of_404 = False
        self._deletes_one_by_one = False

    def receive(self, *, wait: int, limit: int = MAX_MESSAGES) -> list[Message]:
        """Return up to `limit` messages as soon as there is one, or none after `wait` seconds (0 to 30) or after `interrupt`.

        A 404 without a code counts as an empty queue, because too many parallel polls cause one (vod-protocol 3.2).
        Raises VodUnavailableError, VodRefusedError or VodCredentialsError.
        """
        with self._lock:
            if self._is_interrupted:
                return []
            self._is_polling = True
        try:
            return self._receive({"numOfMessages": str(limit), "waitseconds": str(wait)}, wait)
        except VodUnavailableError as error:
            if self._is_interrupted:
                return []
            if error.status == 404 and not error.code:
                self._warn_of_404()
                return []
            raise
        finally:
            with self._lock:
                self._is_polling = False

    def check(self) -> int:
        """Return how many messages are waiting, 16 at most, without receiving them. Raises the same errors as `receive`."""
        return len(self._receive({"numOfMessages": str(MAX_MESSAGES), "peekonly": "true"}, 0))

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete up to 16 messages. Return how many were deleted; an expired receipt is not an error, its message comes back.

        One receipt is sent in the URL, several in one body. If the queue refuses the body, the receipts are sent one by one from
        then on. Raises VodUnavailableError, VodRefusedError or VodCredentialsError.
        """
        if len(receipts) == 1 or self._deletes_one_by_one:
            return self._delete_one_by_one(receipts)
        handles = "".join(f"<ReceiptHandle>{escape(receipt)}</ReceiptHandle>" for receipt in receipts)
        body = f'<?xml version="1.0" encoding="utf-8"?><ReceiptHandles xmlns="{_NAMESPACE}">{handles}</ReceiptHandles>'
        status, content = self._call("DELETE", {}, body.encode())
        if status in (200, 204):
            return len(receipts)
        try:
            not_deleted = smq_xml.parse_faults(content)
        except SmqXmlError:
            not_deleted = []
        if status == 404 and not_deleted:
            return max(0, len(receipts) - len(not_deleted))
        error = self._error(status, content)
        if not _may_be_about_the_form(error):
            raise error
        deleted = self._delete_one_by_one(receipts)
        if error.code not in _EXPIRED:
            self._deletes_one_by_one = True
            fields = {"queue": self.name, "code": error.code, "status": status, "request_id": error.request_id}
            self._warn("queue does not delete several messages at once; they are deleted one by one", **fields)
        return deleted

    def _delete_one_by_one(self, receipts: Sequence[str]) -> int:
        """Do the same as `delete`. All receipts are sent, also after one was refused; the first refusal is raised at the end."""
        deleted = 0
        refusals: list[VodError] = []
        for receipt in receipts:
            status, content = self._call("DELETE", {"ReceiptHandle": receipt})
            if status in (200, 204):
                deleted += 1
                continue
            error = self._error(status, content)
            if error.code in _EXPIRED:
                continue
            if not isinstance(error, VodRefusedError) or error.code == "QueueNotExist":
                raise error
            refusals.append(error)
        if refusals:
            raise refusals[0]
        return deleted

    def interrupt(self) -> None:
        """End the current long poll at once, and all later ones. Messages that were received can still be deleted."""
        with self._lock:
            self._is_interrupted = True
            if self._is_polling:
                self._http.abort("the poll was interrupted")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _receive(self, query: dict[str, str], wait: int) -> list[Message]:
        status, content = self._call("GET", query, wait=wait)
        if status == 200:
            try:
                return smq_xml.parse_messages(content)
            except SmqXmlError as error:
                raise VodUnreadableError(f"the queue {self.name} answered with {error}") from None
        refusal = self._error(status, content)
        if refusal.code == "MessageNotExist":
            return []
        raise refusal

    def _call(self, method: str, query: Mapping[str, str], body: bytes = b"", *, wait: int = 0) -> tuple[int, bytes]:
        """Return the HTTP status and the content of the answer. Raises VodUnavailableError if there is none."""
        key = self._access_key()
        query_string = f"?{urlencode(query, quote_via=quote)}" if query else ""
        url = httpx.URL(f"{self._endpoint}/queues/{self.name}/messages{query_string}")
        headers = {"content-type": _CONTENT_TYPE, "date": formatdate(usegmt=True), "x-mns-version": "2015-06-06"}
        if key.security_token:
            headers["security-token"] = key.security_token
        signature = sign(key.secret, method, url.raw_path.decode(), headers)
        headers["authorization"] = f"MNS {key.access_key_id}:{signature}"
        seconds = wait + _READ_TIMEOUT
        try:
            response = self._http.call(
                method,
                str(url),
                headers=headers,
                content=body,
                read_timeout=seconds,
                deadline=seconds,
                max_size=_MAX_ANSWER_SIZE,
            )
        except VodUnavailableError as error:
            raise VodUnavailableError(f"the queue {self.name} gave no answer: {error}") from error
        return response.status, response.body

    def _warn_of_404(self) -> None:
        if not self._has_warned_of_404:
            self._has_warned_of_404 = True
            self._warn(
                "queue answered 404 without a reason, taken as empty; if this continues, check VODSYNC_SMQ_ENDPOINT",
                queue=self.name,
            )

    def _error(self, status: int, content: bytes) -> VodError:
        """Return the error for an answer: by its code first, by its HTTP status second (vod-protocol 3.2)."""
        try:
            fault = smq_xml.parse_fault(content)
        except SmqXmlError:
            # The page of a gateway, or an error as plain text.
            known_code = _KNOWN_CODE.search(content) if 400 <= status < 500 else None
            fault = Fault(known_code[0].decode() if known_code else "")
        fields: dict[str, Any] = {"code": fault.code, "status": status, "request_id": fault.request_id}
        summary = f"{fault.code or 'no code'}, HTTP {status}"
        if fault.code == "QueueNotExist":
            return VodRefusedError(
                f"there is no queue {self.name} at {self._endpoint}; create it, or correct VODSYNC_SMQ_QUEUE and "
                "VODSYNC_SMQ_ENDPOINT",
                **fields,
            )
        if fault.code.startswith(_CLOCK):
            return VodCredentialsError(f"the queue reports that this machine's clock is wrong ({summary}); set it by NTP", **fields)
        if fault.code.startswith(_CREDENTIALS):
            return VodCredentialsError(
                f"the queue {self.name} does not permit access to this account ({summary}); check its keys and its RAM "
                "rights mns:ReceiveMessage and mns:DeleteMessage",
                **fields,
            )
        if 400 <= status < 500 and status != 429 and fault.code and not fault.code.startswith(_UNAVAILABLE):
            return VodRefusedError(f"the queue {self.name} refused the call ({summary})", **fields)
        return VodUnavailableError(f"the queue {self.name} is not available ({summary})", **fields)


def _may_be_about_the_form(error: VodError) -> bool:
    """Return whether the deletion of several messages was refused in a way that one by one may succeed."""
    if isinstance(error, VodRefusedError):
        return error.code != "QueueNotExist"
    # Without a code it may be a gateway that refuses DELETE with a body. 408 and 429 mean that a later call may succeed.
    return not error.code and 400 <= (error.status or 0) < 500 and error.status not in (408, 429)
