"""The control API below `/emulator`: start uploads, read the real state of the library and the counters, set faults.

Its requests are not signed and not counted.
"""

from __future__ import annotations

import time
from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.emulator.api.call import split_ids
from worker.emulator.api.faults import Faults
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.library import CHANGEABLE_FIELDS
from worker.emulator.server.account import Account

T = TypeVar("T")

#: Media ids in one answer of GET /emulator/media.
MAX_PAGE_SIZE = 10_000


class ControlError(Exception):
    """The request is invalid. The message names what to send instead; `reason` is one word for programs."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class UploadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /emulator/uploads."""

    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    #: Seconds from the announcement to the last transcoded stream; default: the value of the configuration.
    life_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    #: The files cannot be analysed: VideoAnalysisComplete has the status fail.
    damaged: bool = False
    #: False sends no notifications.
    notify: bool = True


class DeleteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /emulator/media/{id}/delete, optional (vod-protocol 2.7)."""

    DeleteType: str = "all"
    JobIds: list[str] = []
    #: False sends no notification.
    notify: bool = True


class Control:
    """The handlers of the control API for one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return all paths, each with its methods."""
        return [
            Route("/emulator", self.about),
            Route("/emulator/uploads", self.upload, methods=["POST"]),
            Route("/emulator/media", self.list_media),
            Route("/emulator/media/{media_id}", self.show_asset),
            Route("/emulator/media/{media_id}/delete", self.delete, methods=["POST"]),
            Route("/emulator/media/{media_id}/change", self.change, methods=["POST"]),
            Route("/emulator/record", self.show_assets, methods=["GET", "POST"]),
            Route("/emulator/calls", self.show_calls),
            Route("/emulator/calls", self.reset_calls, methods=["DELETE"]),
            Route("/emulator/deliveries", self.show_deliveries),
            Route("/emulator/queue", self.show_queue),
            Route("/emulator/queue", self.send_to_queue, methods=["POST"]),
            Route("/emulator/faults", self.show_faults),
            Route("/emulator/faults", self.set_faults, methods=["PUT"]),
            Route("/emulator/faults", self.clear_faults, methods=["DELETE"]),
        ]

    async def about(self, request: Request) -> Response:
        config = self._account.config
        paths = sorted({f"{method} {route.path}" for route in self.routes() for method in route.methods or () if method != "HEAD"})
        return _json({"media": self._account.library.total, "seed": config.seed, "region": config.region, "paths": paths})

    async def upload(self, request: Request) -> Response:
        body = _decode(await request.body(), UploadRequest)
        media_ids = self._account.upload(body.count, life_seconds=body.life_seconds, damaged=body.damaged, notify=body.notify)
        return _json({"media_ids": media_ids})

    async def list_media(self, request: Request) -> Response:
        library = self._account.library
        offset = _query_number(request, "offset", 0)
        limit = min(_query_number(request, "limit", 100), MAX_PAGE_SIZE)
        media_ids = [library.ids.media_id(index) for index in range(offset, min(offset + limit, library.total))]
        return _json({"total": library.total, "media_ids": media_ids})

    async def show_asset(self, request: Request) -> Response:
        return _json(self._account.library.element(self._index(request), time.time()))

    async def show_assets(self, request: Request) -> Response:
        if request.method == "GET":
            media_ids = split_ids(request.query_params.get("media_ids", ""))
        else:
            media_ids = _decode(await request.body(), list[str])
        library = self._account.library
        known, unknown = {}, []
        now = time.time()
        for media_id in media_ids:
            index = library.index(media_id)
            if index is None or library.is_deleted(index):
                unknown.append(media_id)
            else:
                known[media_id] = library.element(index, now)
        return _json({"media": known, "unknown": unknown})

    async def delete(self, request: Request) -> Response:
        index = self._index(request)
        body = _decode(await request.body() or b"{}", DeleteRequest)
        if body.DeleteType not in ("all", "mezzanine", "stream") or (body.DeleteType == "stream") != bool(body.JobIds):
            raise ControlError(400, "body", "Send DeleteType all, mezzanine, or stream with JobIds.")
        self._account.delete(index, body.DeleteType, tuple(body.JobIds), time.time(), notify=body.notify)
        return _json({"deleted": body.DeleteType})

    async def change(self, request: Request) -> Response:
        """Set the fields of MediaInfo in the body. `"notify": false` among them sends no notification."""
        index = self._index(request)
        fields = _decode(await request.body(), JsonObject)
        notify = fields.pop("notify", True)
        if not fields or not CHANGEABLE_FIELDS.issuperset(fields) or not isinstance(notify, bool):
            names = ", ".join(sorted(CHANGEABLE_FIELDS))
            raise ControlError(400, "field", f"Send one or more of {names}, and notify as true or false.")
        now = time.time()
        self._account.change(index, fields, now, notify=notify)
        return _json(self._account.library.element(index, now))

    async def show_calls(self, request: Request) -> Response:
        return _json({operation: endpoint.stats.as_dict() for operation, endpoint in self._account.endpoints.items()})

    async def reset_calls(self, request: Request) -> Response:
        for endpoint in self._account.endpoints.values():
            endpoint.stats.reset()
        return await self.show_calls(request)

    async def show_deliveries(self, request: Request) -> Response:
        return _json(self._account.notifier.as_dict())

    async def show_queue(self, request: Request) -> Response:
        return _json(self._account.queue.as_dict(time.time()))

    async def send_to_queue(self, request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        return _json({"message_id": self._account.queue.send(body, time.time()).message_id})

    async def show_faults(self, request: Request) -> Response:
        return _json(self._account.injector.faults)

    async def set_faults(self, request: Request) -> Response:
        self._account.injector.set(_decode(await request.body(), Faults))
        return await self.show_faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._account.injector.set(Faults())
        return await self.show_faults(request)

    def _index(self, request: Request) -> int:
        """Return the index of the asset in the path. Raises ControlError if it is unknown or deleted."""
        library = self._account.library
        index = library.index(request.path_params["media_id"])
        if index is None or library.is_deleted(index):
            raise ControlError(404, "unknown", "The media id is unknown or deleted; GET /emulator/media lists all ids.")
        return index


async def control_error_response(request: Request, exc: Exception) -> Response:
    """Return a ControlError as `{"error": sentence, "reason": word}`."""
    if not isinstance(exc, ControlError):
        raise exc
    return _json({"error": str(exc), "reason": exc.reason}, exc.status)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _decode(body: bytes, body_type: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=body_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        fields = ", ".join(getattr(body_type, "__struct_fields__", ()))
        allowed = f" Allowed fields: {fields}." if fields else ""
        raise ControlError(400, "body", f"The body is invalid, send other JSON: {exc}.{allowed}") from exc


def _query_number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise ControlError(400, "parameter", f"Send {name} as a whole number.")
    return int(text)
