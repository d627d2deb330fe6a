"""The unsigned API below /emulator: start uploads, look at the truth, read the counters, break things."""

from __future__ import annotations

import time
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.emulator.api.faults import Faults
from worker.emulator.api.operations import split
from worker.emulator.library.account import Account
from worker.emulator.library.library import CHANGEABLE

T = TypeVar("T")

#: Media that one listing returns at most.
PAGE = 10_000


class ControlError(Exception):
    """The request cannot be carried out; the message says what to send instead, `reason` is one word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Uploads(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /emulator/uploads."""

    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    #: Another length of life than the emulator's own, in seconds.
    life_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    #: The files cannot be analysed: VideoAnalysisComplete comes with Status fail.
    damaged: bool = False
    #: False keeps the notifications back.
    notify: bool = True


class Deletion(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /emulator/media/{id}/delete, may be left out (vod-protocol 2.7)."""

    DeleteType: str = "all"
    JobIds: list[str] = []
    #: False keeps the notifications back: the medium is gone and nobody was told.
    notify: bool = True


class Control:
    """Handlers over one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """All paths, each with its methods."""
        return [
            Route("/emulator", self.about),
            Route("/emulator/uploads", self.upload, methods=["POST"]),
            Route("/emulator/media", self.list_media),
            Route("/emulator/media/{media_id}", self.show),
            Route("/emulator/media/{media_id}/delete", self.delete, methods=["POST"]),
            Route("/emulator/media/{media_id}/change", self.change, methods=["POST"]),
            Route("/emulator/record", self.record, methods=["GET", "POST"]),
            Route("/emulator/calls", self.show_calls),
            Route("/emulator/calls", self.forget_calls, methods=["DELETE"]),
            Route("/emulator/deliveries", self.deliveries),
            Route("/emulator/queue", self.show_queue),
            Route("/emulator/queue", self.write, methods=["POST"]),
            Route("/emulator/faults", self.show_faults),
            Route("/emulator/faults", self.set_faults, methods=["PUT"]),
            Route("/emulator/faults", self.clear_faults, methods=["DELETE"]),
        ]

    async def about(self, request: Request) -> Response:
        config = self._account.config
        paths = sorted({f"{method} {route.path}" for route in self.routes() for method in route.methods or () if method != "HEAD"})
        return _json({"media": self._account.library.total, "seed": config.seed, "region": config.region, "paths": paths})

    async def upload(self, request: Request) -> Response:
        wanted = _read(await request.body(), Uploads)
        media_ids = self._account.upload(
            wanted.count, life_seconds=wanted.life_seconds, damaged=wanted.damaged, notify=wanted.notify
        )
        return _json({"media_ids": media_ids})

    async def list_media(self, request: Request) -> Response:
        library = self._account.library
        offset = _number(request, "offset", 0)
        limit = min(_number(request, "limit", 100), PAGE)
        media_ids = [library.identities.media_id(index) for index in range(offset, min(offset + limit, library.total))]
        return _json({"total": library.total, "media_ids": media_ids})

    async def show(self, request: Request) -> Response:
        return _json(self._account.library.element(self._index(request), time.time()))

    async def record(self, request: Request) -> Response:
        if request.method == "GET":
            media_ids = split(request.query_params.get("media_ids", ""))
        else:
            media_ids = _read(await request.body(), list[str])
        library = self._account.library
        known, unknown = {}, []
        now = time.time()
        for media_id in media_ids:
            index = library.index(media_id)
            if index is None or library.deleted(index):
                unknown.append(media_id)
            else:
                known[media_id] = library.element(index, now)
        return _json({"media": known, "unknown": unknown})

    async def delete(self, request: Request) -> Response:
        index = self._index(request)
        wanted = _read(await request.body() or b"{}", Deletion)
        if wanted.DeleteType not in ("all", "mezzanine", "stream") or (wanted.DeleteType == "stream") != bool(wanted.JobIds):
            raise ControlError(400, "body", "Send DeleteType all, mezzanine, or stream with JobIds.")
        self._account.delete(index, wanted.DeleteType, tuple(wanted.JobIds), time.time(), notify=wanted.notify)
        return _json({"deleted": wanted.DeleteType})

    async def change(self, request: Request) -> Response:
        """The body is the fields of MediaInfo that change; `"notify": false` among them keeps the notification back."""
        index = self._index(request)
        fields = _read(await request.body(), dict[str, Any])
        notify = fields.pop("notify", True)
        if not fields or not CHANGEABLE.issuperset(fields) or not isinstance(notify, bool):
            raise ControlError(400, "field", f"Send one or more of {', '.join(sorted(CHANGEABLE))}, and notify as true or false.")
        now = time.time()
        self._account.change(index, fields, now, notify=notify)
        return _json(self._account.library.element(index, now))

    async def show_calls(self, request: Request) -> Response:
        return _json({operation: calls.as_dict() for operation, calls in self._account.calls.items()})

    async def forget_calls(self, request: Request) -> Response:
        self._account.forget_calls()
        return await self.show_calls(request)

    async def deliveries(self, request: Request) -> Response:
        return _json(self._account.notifier.as_dict())

    async def show_queue(self, request: Request) -> Response:
        return _json(self._account.mailbox.as_dict(time.time()))

    async def write(self, request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        return _json({"message_id": self._account.mailbox.put(body, time.time()).message_id})

    async def show_faults(self, request: Request) -> Response:
        return _json(self._account.mischief.faults)

    async def set_faults(self, request: Request) -> Response:
        self._account.mischief.set(_read(await request.body(), Faults))
        return await self.show_faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._account.mischief.set(Faults())
        return await self.show_faults(request)

    def _index(self, request: Request) -> int:
        library = self._account.library
        index = library.index(request.path_params["media_id"])
        if index is None or library.deleted(index):
            raise ControlError(404, "unknown", "There is no such medium; GET /emulator/media lists the ids of all.")
        return index


async def explain(request: Request, mistake: Exception) -> Response:
    """A Mistake as `{"error": sentence, "reason": word}`."""
    if not isinstance(mistake, ControlError):
        raise mistake
    return _json({"error": str(mistake), "reason": mistake.reason}, mistake.status)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        fields = ", ".join(getattr(kind, "__struct_fields__", ()))
        known = f" It may have: {fields}." if fields else ""
        raise ControlError(400, "body", f"The body does not fit, send other JSON: {exc}.{known}") from exc


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise ControlError(400, "parameter", f"Send {name} as a whole number.")
    return int(text)
