"""The HTTP API of the queue: send, receive, peek, change visibility and delete, signed, in XML (vod-protocol 3.2)."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.broken_connections import reset_connection, send_half
from worker.emulator.api.faults import FaultInjector, FaultRule
from worker.emulator.api.gateway import BAD_GATEWAY_PAGE
from worker.emulator.library.json_types import JsonObject
from worker.emulator.smq.signature import SmqSignatureVerifier
from worker.emulator.smq.smq_queue import QueuedMessage, SmqQueue
from worker.emulator.smq.xml_documents import document, element_texts, elements

_XML = "text/xml;charset=utf-8"
_GARBAGE = b"\x1f\x8b\x00<Message>"

MAX_BODY_SIZE = 65_536  # bytes of one message
MAX_BATCH_SIZE = 16  # messages of one call
MAX_POLL_TIME = 30  # seconds
MAX_INVISIBLE_TIME = 43_200  # seconds
#: The priority of messages that were sent without one.
_DEFAULT_PRIORITY = 8

_OPERATIONS = {"GET": "ReceiveMessage", "POST": "SendMessage", "DELETE": "DeleteMessage", "PUT": "ChangeMessageVisibility"}


class SmqApi:
    """The ASGI application for `/queues/{queue}/messages`. Only the queue `queue_name` exists.

    The fault `credentials` is answered with the code of its rule.
    """

    def __init__(self, queue_name: str, queue: SmqQueue, verifier: SmqSignatureVerifier, injector: FaultInjector) -> None:
        self._queue_name = queue_name
        self._queue = queue
        self._verifier = verifier
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        operation = _OPERATIONS[request.method]
        slow = self._injector.triggered("slow", operation)
        if slow:
            await asyncio.sleep(slow.seconds)
        fault, rule = self._injector.terminal_fault(operation) or ("", FaultRule())
        if fault == "reset":
            await reset_connection(scope, receive)
            return
        if fault == "html":
            await Response(BAD_GATEWAY_PAGE, 502, media_type="text/html")(scope, receive, send)
            return
        try:
            status, content = await self._perform(request, body, fault, rule)
        except ApiError as error:
            status, content = error.status, _error_document(error, request.headers.get("host", ""))
        if fault == "halfway":
            await send_half(scope, receive, send, content)
            return
        if fault in ("truncated", "garbage"):
            content = content[: len(content) // 2] if fault == "truncated" else _GARBAGE
        await Response(content, status, media_type=_XML)(scope, receive, send)

    async def _perform(self, request: Request, body: bytes, fault: str, rule: FaultRule) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer. Raises ApiError."""
        if fault == "http_500":
            raise ApiError("InternalError", 500, "The request processing has failed due to some unknown error.")
        if fault in ("service_unavailable", "throttle"):
            raise ApiError("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
        query = request.scope["query_string"].decode("latin-1")
        resource = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers = dict(request.headers.items())
        self._verifier.verify(method=request.method, resource=resource, headers=headers, body=body, now=time.time())
        if fault == "credentials":
            raise ApiError(rule.code, 403, "The call is not permitted.")
        if request.path_params["queue"] != self._queue_name:
            raise ApiError("QueueNotExist", 404, "The queue name you provided is not exist.")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        match request.method:
            case "POST":
                return self._send(body)
            case "GET":
                return await self._receive(request, parameters)
            case "PUT":
                return self._change_visibility(parameters)
            case _:
                return self._delete(parameters, body)

    def _send(self, body: bytes) -> tuple[int, bytes]:
        texts = element_texts(body, "MessageBody")
        if len(texts) != 1 or not 0 < len(texts[0].encode()) <= MAX_BODY_SIZE:
            raise ApiError("InvalidArgument", 400, f"Send one MessageBody of 1 to {MAX_BODY_SIZE} bytes.")
        message = self._queue.send(texts[0], time.time())
        return 201, document("Message", elements({"MessageId": message.message_id, "MessageBodyMD5": _md5(message.body)}))

    async def _receive(self, request: Request, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        is_batch = "numOfMessages" in parameters
        limit = _number(parameters, "numOfMessages", 1, 1, MAX_BATCH_SIZE)
        peek = parameters.get("peekonly") == "true"
        poll_until = time.time() + (0 if peek else _number(parameters, "waitseconds", 0, 0, MAX_POLL_TIME))
        read: Callable[[int, float], list[QueuedMessage]] = self._queue.peek if peek else self._queue.receive
        end_early = not peek and self._injector.triggered("early_404")
        while True:
            messages = [] if end_early else read(limit, time.time())
            if messages:
                break
            if end_early or (now := time.time()) >= poll_until:
                raise ApiError("MessageNotExist", 404, "Message not exist.")
            await self._queue.wait(poll_until, now)
            # A client that has disconnected must not receive a message: it would be invisible for its visibility time.
            if await request.is_disconnected():
                return 200, b""
        contents = [elements(_message_fields(message, peek=peek)) for message in messages]
        if not is_batch:
            return 200, document("Message", contents[0])
        return 200, document("Messages", "".join(f"<Message>{content}</Message>" for content in contents))

    def _change_visibility(self, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        seconds = _number(parameters, "VisibilityTimeout", 0, 1, MAX_INVISIBLE_TIME)
        message = self._queue.change_visibility(_receipt(parameters), seconds, time.time())
        fields = {"ReceiptHandle": message.receipt, "NextVisibleTime": _to_milliseconds(message.visible_at)}
        return 200, document("ChangeVisibility", elements(fields))

    def _delete(self, parameters: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Delete one message by the receipt in the URL, or a batch by the receipts in the body."""
        now = time.time()
        if not body or "ReceiptHandle" in parameters:
            self._queue.delete(_receipt(parameters), now)
            return 204, b""
        if self._injector.triggered("single_delete"):
            raise ApiError("InvalidArgument", 400, "The receipt handle belongs into the address.")
        receipts = element_texts(body, "ReceiptHandle")
        if not 1 <= len(receipts) <= MAX_BATCH_SIZE:
            raise ApiError("InvalidArgument", 400, f"Send 1 to {MAX_BATCH_SIZE} receipt handles.")
        errors = []
        for receipt in receipts:
            try:
                self._queue.delete(receipt, now)
            except ApiError as error:
                errors.append({"ErrorCode": error.code, "ErrorMessage": error.message, "ReceiptHandle": receipt})
        if not errors:
            return 204, b""
        return 404, document("Errors", "".join(f"<Error>{elements(error_fields)}</Error>" for error_fields in errors))


def _message_fields(message: QueuedMessage, *, peek: bool) -> JsonObject:
    fields: JsonObject = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt,
        "MessageBodyMD5": _md5(message.body),
        "MessageBody": message.body,
        "EnqueueTime": _to_milliseconds(message.enqueued_at),
        "NextVisibleTime": _to_milliseconds(message.visible_at),
        "FirstDequeueTime": _to_milliseconds(message.first_received_at),
        "DequeueCount": message.receive_count,
        "Priority": _DEFAULT_PRIORITY,
    }
    if peek:
        del fields["ReceiptHandle"], fields["NextVisibleTime"]
    return fields


def _receipt(parameters: Mapping[str, str]) -> str:
    if not parameters.get("ReceiptHandle"):
        raise ApiError("MissingReceiptHandle", 400, "The receipt handle is missing.")
    return parameters["ReceiptHandle"]


def _number(parameters: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = parameters.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not minimum <= int(text[:9]) <= maximum:
        raise ApiError("InvalidArgument", 400, f"{name} is not a whole number from {minimum} to {maximum}.")
    return int(text)


def _error_document(error: ApiError, host: str) -> bytes:
    fields = {
        "Code": error.code,
        "Message": error.message,
        "RequestId": uuid.uuid4().hex[:24].upper(),
        "HostId": f"http://{host}",
    }
    return document("Error", elements(fields))


def _to_milliseconds(unix_seconds: float) -> int:
    return round(unix_seconds * 1000)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
