"""The signed API at `/`: who may call, how often, and what an answer looks like on the wire (vod-protocol 4)."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.emulator.account import Account
from worker.emulator.faults import Rule
from worker.emulator.operations import ID_PARAMETERS, split
from worker.emulator.refusal import Refusal, missing_parameter, not_permitted, throttled
from worker.emulator.wire import hang_up, send_half

_HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
_GARBAGE = b'\x1f\x8b\x00{"RequestId": \xff\xfe,,'


class Gateway:
    """The ASGI application behind `POST /` and `GET /`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        query = scope["query_string"].decode("latin-1")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            parameters |= parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        operation = request.headers.get("x-acs-action") or parameters.get("Action", "")
        fault = await self._begin(operation, parameters)
        name, rule = fault or ("", Rule())
        if name == "reset":
            await hang_up(scope, receive)
            return
        if name == "html":
            await Response(_HTML, 502, media_type="text/html")(scope, receive, send)
            return
        if name == "garbage":
            await Response(_GARBAGE, media_type="application/json")(scope, receive, send)
            return
        request_id = str(uuid.uuid4()).upper()
        status = 200
        try:
            answer = self._answer(request, query, parameters, body, operation, name, rule)
            answer["RequestId"] = request_id
        except Refusal as refusal:
            if operation in self._account.calls:
                self._account.calls[operation].refused(refusal.code)
            status = refusal.status
            answer = refusal.body(request_id=request_id, host=request.headers.get("host", ""))
        content = msgspec.json.encode(answer)
        if name == "halfway" and status == 200:
            await send_half(scope, receive, send, content)
            return
        if name == "truncated" and status == 200:
            content = content[: len(content) // 2]
        response = Response(content, status, media_type="application/json;charset=utf-8", headers={"x-acs-request-id": request_id})
        await response(scope, receive, send)

    async def _begin(self, operation: str, parameters: dict[str, str]) -> tuple[str, Rule] | None:
        """Count the call and let time pass; the fault that will end it, if one does."""
        account = self._account
        if operation in account.calls:
            ids = [text for name in ID_PARAMETERS[operation] for text in split(parameters.get(name, ""))]
            account.calls[operation].arrived(ids, time.monotonic())
        slow = account.mischief.strikes("slow", operation)
        delay = account.config.latency + (slow.seconds if slow else 0)
        if delay:
            await asyncio.sleep(delay)
        fault = account.mischief.ending(operation)
        if fault and operation in account.calls and fault[0] in ("reset", "halfway", "truncated", "garbage", "html"):
            account.calls[operation].errors += 1
        return fault

    def _answer(
        self, request: Request, query: str, parameters: dict[str, str], body: bytes, operation: str, fault: str, rule: Rule
    ) -> dict[str, Any]:
        account = self._account
        now = time.time()
        if fault == "http_500":
            raise Refusal("InternalError", 500, "The request processing has failed due to some unknown error.")
        if fault == "service_unavailable":
            raise Refusal("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
        if not operation:
            raise missing_parameter("Action")
        if operation not in account.quotas:
            offered = ", ".join(account.quotas)
            raise Refusal("InvalidAction.NotFound", 404, f"Specified api is not found: the emulator offers {offered}.")
        account.gatekeeper.admit(
            method=request.method,
            query=query,
            headers=dict(request.headers.items()),
            parameters=parameters,
            body=body,
            now=now,
        )
        if fault == "credentials":
            raise not_permitted(rule.code)
        if fault == "throttle" or not account.quotas[operation].take(time.monotonic()):
            raise throttled()
        return account.operations.call(operation, parameters, now)
