"""The signed API at `/` as an ASGI application (vod-protocol 4).

It counts the call, applies faults, checks the signature and the rate limit, and passes the call to its operation.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.emulator.api.api_errors import ApiError, missing_parameter, not_permitted, throttled
from worker.emulator.api.broken_connections import reset_connection, send_half
from worker.emulator.api.call import ApiCall, read_call
from worker.emulator.api.call_stats import CallStats
from worker.emulator.api.faults import FaultInjector, FaultRule
from worker.emulator.api.rate_limit import RateLimiter
from worker.emulator.api.signature import SignatureVerifier
from worker.emulator.library.json_types import JsonObject

_JSON = "application/json;charset=utf-8"
#: The page that a gateway in front of the API sends with 502.
BAD_GATEWAY_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
_GARBAGE = b'\x1f\x8b\x00{"RequestId": \xff\xfe,,'
#: Faults that leave the client without a complete answer of the API.
_FAULTS_WITHOUT_ANSWER = ("reset", "halfway", "truncated", "garbage", "html")

#: Takes the parameters and the time (unix seconds), and returns the answer without its RequestId. Raises ApiError.
Handler = Callable[[Mapping[str, str], float], Awaitable[JsonObject]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    handler: Handler
    rate_limiter: RateLimiter
    stats: CallStats = field(default_factory=CallStats)


class Gateway:
    """The ASGI application for `POST /` and `GET /`."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], verifier: SignatureVerifier, injector: FaultInjector, *, latency: float
    ) -> None:
        """`endpoints` are by name of the operation; `latency` is in seconds, before each answer."""
        self._endpoints = endpoints
        self._verifier = verifier
        self._injector = injector
        self._latency = latency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await read_call(Request(scope, receive))
        fault, rule = await self._start(call)
        if fault == "reset":
            await reset_connection(scope, receive)
            return
        if fault == "html":
            await Response(BAD_GATEWAY_PAGE, 502, media_type="text/html")(scope, receive, send)
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

    async def _start(self, call: ApiCall) -> tuple[str, FaultRule]:
        """Count the call and wait for the latency. Return the fault that decides its answer, "" for none, and the fault's rule."""
        endpoint = self._endpoints.get(call.operation)
        if endpoint is not None:
            endpoint.stats.record_call(call.ids, time.monotonic())
        slow = self._injector.triggered("slow", call.operation)
        delay = self._latency + (slow.seconds if slow else 0)
        if delay:
            await asyncio.sleep(delay)
        fault, rule = self._injector.terminal_fault(call.operation) or ("", FaultRule())
        if endpoint is not None and fault in _FAULTS_WITHOUT_ANSWER:
            endpoint.stats.errors += 1
        return fault, rule

    async def _answer(self, call: ApiCall, fault: str, rule: FaultRule) -> tuple[int, JsonObject]:
        """Return the HTTP status and the JSON of the answer, which may be an error."""
        request_id = str(uuid.uuid4()).upper()
        try:
            return 200, {"RequestId": request_id, **await self._perform(call, fault, rule, time.time())}
        except ApiError as error:
            endpoint = self._endpoints.get(call.operation)
            if endpoint is not None and fault not in _FAULTS_WITHOUT_ANSWER:
                endpoint.stats.record_error(error.code)
            return error.status, error.body(request_id=request_id, host=call.headers.get("host", ""))

    async def _perform(self, call: ApiCall, fault: str, rule: FaultRule, now: float) -> JsonObject:
        if fault == "http_500":
            raise ApiError("InternalError", 500, "The request processing has failed due to some unknown error.")
        if fault == "service_unavailable":
            raise ApiError("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
        if not call.operation:
            raise missing_parameter("Action")
        endpoint = self._endpoints.get(call.operation)
        if endpoint is None:
            names = ", ".join(self._endpoints)
            raise ApiError("InvalidAction.NotFound", 404, f"Specified api is not found: the emulator offers {names}.")
        self._verifier.verify(call, now)
        if fault == "credentials":
            raise not_permitted(rule.code)
        if fault == "throttle" or not endpoint.rate_limiter.acquire(time.monotonic()):
            raise throttled()
        return await endpoint.handler(call.parameters, now)
