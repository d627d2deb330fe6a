"""The queue over HTTP: send, receive, peek, postpone and delete, signed, in XML (vod-protocol 3.2)."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.parsers import expat
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.faults import FaultInjector, Rule
from worker.emulator.server.broken_connections import hang_up, send_half
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.smq.signature import SmqSignatureVerifier
from worker.emulator.smq.smq_queue import QueuedMessage, SmqQueue

_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
_XML = "text/xml;charset=utf-8"
_HTML_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"

#: Bytes of one message, messages of one call, seconds of one long poll, seconds of invisibility.
BODY, BATCH, POLL, INVISIBLE = 65_536, 16, 30, 43_200

_OPERATIONS = {"GET": "ReceiveMessage", "POST": "SendMessage", "DELETE": "DeleteMessage", "PUT": "ChangeMessageVisibility"}


class Smq:
    """The ASGI application behind `/queues/{queue}/messages`. One queue is there; `credentials` faults carry its code."""

    def __init__(self, config: EmulatorConfig, mailbox: SmqQueue, mischief: FaultInjector) -> None:
        self._name = config.smq_queue
        self._mailbox = mailbox
        self._mischief = mischief
        self._porter = SmqSignatureVerifier(config.access_key_id, config.access_key_secret, config.security_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        operation = _OPERATIONS[request.method]
        slow = self._mischief.strikes("slow", operation)
        if slow:
            await asyncio.sleep(slow.seconds)
        fault, rule = self._mischief.ending(operation) or ("", Rule())
        if fault == "reset":
            await hang_up(scope, receive)
            return
        if fault == "html":
            await Response(_HTML_PAGE, 502, media_type="text/html")(scope, receive, send)
            return
        try:
            status, content = await self._perform(request, body, fault, rule)
        except ApiError as refusal:
            status, content = refusal.status, _error(refusal, request.headers.get("host", ""))
        if fault == "halfway":
            await send_half(scope, receive, send, content)
            return
        if fault in ("truncated", "garbage"):
            content = content[: len(content) // 2] if fault == "truncated" else b"\x1f\x8b\x00<Message>"
        await Response(content, status, media_type=_XML)(scope, receive, send)

    async def _perform(self, request: Request, body: bytes, fault: str, rule: Rule) -> tuple[int, bytes]:
        if fault == "http_500":
            raise ApiError("InternalError", 500, "The request processing has failed due to some unknown error.")
        if fault in ("service_unavailable", "throttle"):
            raise ApiError("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
        query = request.scope["query_string"].decode("latin-1")
        resource = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers = dict(request.headers.items())
        self._porter.admit(method=request.method, resource=resource, headers=headers, body=body, now=time.time())
        if fault == "credentials":
            raise ApiError(rule.code, 403, "The call is not permitted.")
        if request.path_params["queue"] != self._name:
            raise ApiError("QueueNotExist", 404, "The queue name you provided is not exist.")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        match request.method:
            case "POST":
                return self._send(body)
            case "GET":
                return await self._receive(request, parameters)
            case "PUT":
                return self._postpone(parameters)
            case _:
                return self._delete(parameters, body)

    def _send(self, body: bytes) -> tuple[int, bytes]:
        texts = _texts(body, "MessageBody")
        if len(texts) != 1 or not 0 < len(texts[0].encode()) <= BODY:
            raise ApiError("InvalidArgument", 400, f"Send one MessageBody of 1 to {BODY} bytes.")
        letter = self._mailbox.put(texts[0], time.time())
        return 201, _document("Message", _elements({"MessageId": letter.message_id, "MessageBodyMD5": _md5(letter.body)}))

    async def _receive(self, request: Request, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        batch = "numOfMessages" in parameters
        limit = _number(parameters, "numOfMessages", 1, 1, BATCH)
        peek = parameters.get("peekonly") == "true"
        until = time.time() + (0 if peek else _number(parameters, "waitseconds", 0, 0, POLL))
        take: Callable[[int, float], list[QueuedMessage]] = self._mailbox.peek if peek else self._mailbox.take
        early = not peek and self._mischief.strikes("early_404")
        while True:
            letters = [] if early else take(limit, time.time())
            if letters:
                break
            if early or (now := time.time()) >= until:
                raise ApiError("MessageNotExist", 404, "Message not exist.")
            await self._mailbox.wait(until, now)
            # Whoever hung up meanwhile is not to be handed anything.
            if await request.is_disconnected():
                return 200, b""
        messages = [_elements(_described(letter, peek=peek)) for letter in letters]
        if not batch:
            return 200, _document("Message", messages[0])
        return 200, _document("Messages", "".join(f"<Message>{message}</Message>" for message in messages))

    def _postpone(self, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        seconds = _number(parameters, "VisibilityTimeout", 0, 1, INVISIBLE)
        letter = self._mailbox.postpone(_receipt(parameters), seconds, time.time())
        told = {"ReceiptHandle": letter.receipt, "NextVisibleTime": _milliseconds(letter.visible_at)}
        return 200, _document("ChangeVisibility", _elements(told))

    def _delete(self, parameters: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        now = time.time()
        if not body or "ReceiptHandle" in parameters:
            self._mailbox.delete(_receipt(parameters), now)
            return 204, b""
        if self._mischief.strikes("single_delete"):
            raise ApiError("InvalidArgument", 400, "The receipt handle belongs into the address.")
        receipts = _texts(body, "ReceiptHandle")
        if not 1 <= len(receipts) <= BATCH:
            raise ApiError("InvalidArgument", 400, f"Send 1 to {BATCH} receipt handles.")
        left = []
        for receipt in receipts:
            try:
                self._mailbox.delete(receipt, now)
            except ApiError as refusal:
                left.append({"ErrorCode": refusal.code, "ErrorMessage": refusal.message, "ReceiptHandle": receipt})
        if not left:
            return 204, b""
        return 404, _document("Errors", "".join(f"<Error>{_elements(each)}</Error>" for each in left))


def _described(letter: QueuedMessage, *, peek: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "MessageId": letter.message_id,
        "ReceiptHandle": letter.receipt,
        "MessageBodyMD5": _md5(letter.body),
        "MessageBody": letter.body,
        "EnqueueTime": _milliseconds(letter.enqueued_at),
        "NextVisibleTime": _milliseconds(letter.visible_at),
        "FirstDequeueTime": _milliseconds(letter.first_taken_at),
        "DequeueCount": letter.taken,
        "Priority": 8,
    }
    if peek:
        del told["ReceiptHandle"], told["NextVisibleTime"]
    return told


def _receipt(parameters: Mapping[str, str]) -> str:
    if not parameters.get("ReceiptHandle"):
        raise ApiError("MissingReceiptHandle", 400, "The receipt handle is missing.")
    return parameters["ReceiptHandle"]


def _number(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise ApiError("InvalidArgument", 400, f"{name} is not a whole number from {least} to {most}.")
    return int(text)


def _texts(body: bytes, wanted: str) -> list[str]:
    """The texts of all elements of this name, in whatever namespace."""
    found: list[str] = []
    inside = False

    def start(name: str, _attributes: object) -> None:
        nonlocal inside
        inside = name.rpartition(" ")[2] == wanted
        if inside:
            found.append("")

    def end(_name: str) -> None:
        nonlocal inside
        inside = False

    def data(text: str) -> None:
        if inside:
            found[-1] += text

    def refuse(*_: object) -> None:
        raise ApiError("MalformedXML", 400, "A document type is not allowed.")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise ApiError("MalformedXML", 400, "The XML you provided was not well-formed.") from None
    return found


def _error(refusal: ApiError, host: str) -> bytes:
    told = {
        "Code": refusal.code,
        "Message": refusal.message,
        "RequestId": uuid.uuid4().hex[:24].upper(),
        "HostId": f"http://{host}",
    }
    return _document("Error", _elements(told))


def _document(root: str, inner: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<{root} xmlns="{_NAMESPACE}">{inner}</{root}>'.encode()


def _elements(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in dict(values).items())


def _milliseconds(unix_seconds: float) -> int:
    return round(unix_seconds * 1000)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
