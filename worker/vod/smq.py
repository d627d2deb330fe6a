"""The queue that VOD writes events to (MNS, now "Simple Message Queue"), in three calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import httpx

from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.settings import Source
from worker.vod import smq_xml
from worker.vod.credentials import keys
from worker.vod.smq_xml import Fault, Message, UnreadableError

#: Messages that one call receives or deletes (vod-protocol 3.2).
LIMIT = 16

#: Bytes; sixteen messages of 64 KiB, each character of them escaped.
_ANSWER = 8 * 2**20

#: Seconds to connect, and beyond a long poll's own wait to answer: with a wait of 20 s this is the 35 s that the vendor advises.
_CONNECT, _ANSWERING = 3.0, 15.0

_CONTENT_TYPE = "text/xml;charset=utf-8"
_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"

#: A receipt that no longer counts: the message was deleted, or is on its way to somebody again.
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

#: These are recognised in any text, for not every refusal is XML (vod-protocol 3.2).
_IN_PLAIN_TEXT = re.compile(rb"\b(?:%s)\b" % "|".join(("QueueNotExist", *_EXPIRED, *_CREDENTIALS, *_CLOCK)).encode())


def sign(secret: str, method: str, target: str, headers: Mapping[str, str]) -> str:
    """The signature of one call (vod-protocol 3.3). Names of headers are lower case; `target` is path and query as sent."""
    ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-mns-"))
    signed = [method, headers.get("content-md5", ""), headers["content-type"], headers["date"], ours + target]
    return base64.b64encode(hmac.new(secret.encode(), "\n".join(signed).encode(), hashlib.sha1).digest()).decode()


class Queue:
    """One source's queue. One thread receives and deletes; any other may `interrupt` it.

    `warn` is told, as a log would be, once of each habit of the queue that is not the documented one.
    """

    def __init__(self, source: Source, *, warn: Callable[..., object] = lambda *_, **__: None) -> None:
        self.name = source.smq_queue or ""
        self._endpoint = source.smq_endpoint or ""
        self._keys = keys(source)
        self._http = httpx.Client(limits=httpx.Limits(max_connections=1), follow_redirects=False)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._polling = False
        self._interrupted = False
        self._warn = warn
        self._puzzled = False
        self._singly = False

    def receive(self, *, wait: int, limit: int = LIMIT) -> list[Message]:
        """Up to `limit` messages, as soon as there is one; none after `wait` seconds (0 to 30), or once interrupted.

        A 404 that gives no reason is an empty answer too: too many polls at once bring one (vod-protocol 3.2).
        Raises VodUnavailable, VodRefused, VodCredentials.
        """
        with self._lock:
            if self._interrupted:
                return []
            self._polling = True
        try:
            return self._receive({"numOfMessages": str(limit), "waitseconds": str(wait)}, wait)
        except VodUnavailableError as error:
            if self._interrupted:
                return []
            if error.status == 404 and not error.code:
                self._wonder()
                return []
            raise
        finally:
            with self._lock:
                self._polling = False

    def check(self) -> int:
        """Look without taking anything; gives how many messages were seen, 16 at most. Raises as `receive` does."""
        return len(self._receive({"numOfMessages": str(LIMIT), "peekonly": "true"}, 0))

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete up to 16 messages; gives how many were. A receipt that has expired is no error: its message comes back.

        One is named in the address, several in one body; where the queue refuses that, one by one from then on.
        Raises VodUnavailable, VodRefused, VodCredentials.
        """
        if len(receipts) == 1 or self._singly:
            return self._delete_singly(receipts)
        inner = "".join(f"<ReceiptHandle>{escape(receipt)}</ReceiptHandle>" for receipt in receipts)
        body = f'<?xml version="1.0" encoding="utf-8"?><ReceiptHandles xmlns="{_NAMESPACE}">{inner}</ReceiptHandles>'
        status, content = self._call("DELETE", {}, body.encode())
        if status in (200, 204):
            return len(receipts)
        try:
            left = smq_xml.faults(content)
        except UnreadableError:
            left = []
        if status == 404 and left:
            return max(0, len(receipts) - len(left))
        refusal = self._sort(status, content)
        if not _may_be_about_the_form(refusal):
            raise refusal
        deleted = self._delete_singly(receipts)
        if refusal.code not in _EXPIRED:
            self._singly = True
            fields = {"queue": self.name, "code": refusal.code, "status": status, "request_id": refusal.request_id}
            self._warn("queue does not delete several messages at once; they are deleted one by one", **fields)
        return deleted

    def _delete_singly(self, receipts: Sequence[str]) -> int:
        """As `delete`. A receipt that is refused keeps no other one from being deleted; then the first refusal is raised."""
        deleted = 0
        refused: list[VodError] = []
        for receipt in receipts:
            status, content = self._call("DELETE", {"ReceiptHandle": receipt})
            if status in (200, 204):
                deleted += 1
                continue
            refusal = self._sort(status, content)
            if refusal.code in _EXPIRED:
                continue
            if not isinstance(refusal, VodRefusedError) or refusal.code == "QueueNotExist":
                raise refusal
            refused.append(refusal)
        if refused:
            raise refused[0]
        return deleted

    def interrupt(self) -> None:
        """Break off a long poll, now and from now on; what was received can still be deleted."""
        with self._lock:
            self._interrupted = True
            self._hang_up()

    def close(self) -> None:
        self._http.close()

    def _receive(self, query: dict[str, str], wait: int) -> list[Message]:
        status, content = self._call("GET", query, wait=wait)
        if status == 200:
            try:
                return smq_xml.messages(content)
            except UnreadableError as error:
                raise VodUnreadableError(f"the queue {self.name} answered with {error}") from None
        refusal = self._sort(status, content)
        if refusal.code == "MessageNotExist":
            return []
        raise refusal

    def _call(self, method: str, query: Mapping[str, str], body: bytes = b"", *, wait: int = 0) -> tuple[int, bytes]:
        keys = self._keys()
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        url = httpx.URL(f"{self._endpoint}/queues/{self.name}/messages{asked}")
        headers = {"content-type": _CONTENT_TYPE, "date": formatdate(usegmt=True), "x-mns-version": "2015-06-06"}
        if keys.security_token:
            headers["security-token"] = keys.security_token
        signature = sign(keys.secret, method, url.raw_path.decode(), headers)
        headers["authorization"] = f"MNS {keys.access_key_id}:{signature}"
        timeout = httpx.Timeout(wait + _ANSWERING, connect=_CONNECT)
        options: dict[str, Any] = {"timeout": timeout, "extensions": {"trace": self._trace}}
        try:
            with self._http.stream(method, url, content=body, headers=headers, **options) as answer:
                return answer.status_code, _read(answer)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise VodUnavailableError(f"the queue {self.name} gave no answer: {type(error).__name__}: {error}") from error

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """The HTTP library tells what it does; with the connection in hand a wait of half a minute can be ended at once."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._connection = info["return_value"].get_extra_info("socket")
                if self._interrupted:
                    self._hang_up()

    def _hang_up(self) -> None:
        if self._polling and self._connection is not None:
            with suppress(OSError):
                # Not the method of a TLS connection, which first forgets its keys.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def _wonder(self) -> None:
        if not self._puzzled:
            self._puzzled = True
            self._warn(
                "queue answered 404 without a reason, taken as empty; where that lasts, check VODSYNC_SMQ_ENDPOINT", queue=self.name
            )

    def _sort(self, status: int, content: bytes) -> VodError:
        """By the code first, by the status second (vod-protocol 3.2)."""
        try:
            fault = smq_xml.fault(content)
        except UnreadableError:
            # A gateway in between, or an error as plain text.
            named = _IN_PLAIN_TEXT.search(content) if 400 <= status < 500 else None
            fault = Fault(named[0].decode() if named else "")
        fields: dict[str, Any] = {"code": fault.code, "status": status, "request_id": fault.request_id}
        said = f"{fault.code or 'no code'}, HTTP {status}"
        if fault.code == "QueueNotExist":
            return VodRefusedError(
                f"there is no queue {self.name} at {self._endpoint}; create it, or correct VODSYNC_SMQ_QUEUE and "
                "VODSYNC_SMQ_ENDPOINT",
                **fields,
            )
        if fault.code.startswith(_CLOCK):
            return VodCredentialsError(f"the queue says that this machine's clock is off ({said}); set it by NTP", **fields)
        if fault.code.startswith(_CREDENTIALS):
            return VodCredentialsError(
                f"the queue {self.name} does not let this account in ({said}); check its keys, and its RAM rights "
                "mns:ReceiveMessage and mns:DeleteMessage",
                **fields,
            )
        if 400 <= status < 500 and status != 429 and fault.code and not fault.code.startswith(_UNAVAILABLE):
            return VodRefusedError(f"the queue {self.name} refused the call ({said})", **fields)
        return VodUnavailableError(f"the queue {self.name} is not available ({said})", **fields)


def _may_be_about_the_form(refusal: VodError) -> bool:
    """Whether a refused deletion of several messages may succeed one by one."""
    if isinstance(refusal, VodRefusedError):
        return refusal.code != "QueueNotExist"
    # Without a code: a gateway that lets no DELETE with a body pass, for one. 408 and 429 ask for time.
    return not refusal.code and 400 <= (refusal.status or 0) < 500 and refusal.status not in (408, 429)


def _read(answer: httpx.Response) -> bytes:
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > _ANSWER:
            raise VodUnreadableError(f"the queue's answer is over {_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)
