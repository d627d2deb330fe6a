"""The signed API at `/`: who may call, how often, and what an answer looks like on the wire (vod-protocol 4)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.emulator.api.api_errors import ApiError, missing_parameter, not_permitted, throttled
from worker.emulator.api.faults import Rule
from worker.emulator.api.operations import ID_PARAMETERS, split
from worker.emulator.library.account import Account
from worker.emulator.server.broken_connections import hang_up, send_half

_JSON = "application/json;charset=utf-8"
_HTML_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
_GARBAGE = b'\x1f\x8b\x00{"RequestId": \xff\xfe,,'
#: Faults after which no answer of the API reaches the caller whole.
_UNANSWERED = ("reset", "halfway", "truncated", "garbage", "html")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read. `parameters` are those of query and form together, header names are lower case."""

    method: str
    query: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """V3 names it in a header, V1 in a parameter."""
        return self.headers.get("x-acs-action") or self.parameters.get("Action", "")

    @property
    def ids(self) -> list[str]:
        """All ids that the call names, repeated ones as often as they stand there."""
        names = ID_PARAMETERS.get(self.operation, ())
        return [text for name in names for text in split(self.parameters.get(name, ""))]


class Gateway:
    """The ASGI application behind `POST /` and `GET /`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await _read(Request(scope, receive))
        fault, rule = await self._begin(call)
        if fault == "reset":
            await hang_up(scope, receive)
            return
        if fault == "html":
            await Response(_HTML_PAGE, 502, media_type="text/html")(scope, receive, send)
            return
        if fault == "garbage":
            await Response(_GARBAGE, media_type=_JSON)(scope, receive, send)
            return
        status, answer = await self._answer(call, fault, rule)
        content = msgspec.json.encode(answer)
        if fault == "halfway":
            await send_half(scope, receive, send, content)
            return
        if fault == "truncated":
            content = content[: len(content) // 2]
        headers = {"x-acs-request-id": answer["RequestId"]}
        await Response(content, status, headers=headers, media_type=_JSON)(scope, receive, send)

    async def _begin(self, call: Call) -> tuple[str, Rule]:
        """Count the call and let time pass; the fault that is to end it, if one is."""
        account = self._account
        counters = account.calls.get(call.operation)
        if counters is not None:
            counters.arrived(call.ids, time.monotonic())
        slow = account.mischief.strikes("slow", call.operation)
        delay = account.config.latency + (slow.seconds if slow else 0)
        if delay:
            await asyncio.sleep(delay)
        fault, rule = account.mischief.ending(call.operation) or ("", Rule())
        if counters is not None and fault in _UNANSWERED:
            counters.errors += 1
        return fault, rule

    async def _answer(self, call: Call, fault: str, rule: Rule) -> tuple[int, dict[str, Any]]:
        request_id = str(uuid.uuid4()).upper()
        try:
            return 200, {"RequestId": request_id, **await self._perform(call, fault, rule, time.time())}
        except ApiError as refusal:
            counters = self._account.calls.get(call.operation)
            if counters is not None and fault not in _UNANSWERED:
                counters.refused(refusal.code)
            return refusal.status, refusal.body(request_id=request_id, host=call.headers.get("host", ""))

    async def _perform(self, call: Call, fault: str, rule: Rule, now: float) -> dict[str, Any]:
        account = self._account
        if fault == "http_500":
            raise ApiError("InternalError", 500, "The request processing has failed due to some unknown error.")
        if fault == "service_unavailable":
            raise ApiError("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
        if not call.operation:
            raise missing_parameter("Action")
        if call.operation not in account.quotas:
            offered = ", ".join(account.quotas)
            raise ApiError("InvalidAction.NotFound", 404, f"Specified api is not found: the emulator offers {offered}.")
        account.gatekeeper.admit(
            method=call.method, query=call.query, headers=call.headers, parameters=call.parameters, body=call.body, now=now
        )
        if fault == "credentials":
            raise not_permitted(rule.code)
        if fault == "throttle" or not account.quotas[call.operation].take(time.monotonic()):
            raise throttled()
        if call.operation == "SearchMedia":
            return await account.listing.search_media(call.parameters, now)
        return await account.operations.call(call.operation, call.parameters, now)


async def _read(request: Request) -> Call:
    body = await request.body()
    query = request.scope["query_string"].decode("latin-1")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        parameters |= parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return Call(request.method, query, dict(request.headers.items()), parameters, body)
