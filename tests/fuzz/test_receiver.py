"""Any request gets one correct response, only signed ones are accepted, and exactly the accepted ones are stored."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select
from starlette.routing import Route

from tests.fuzz import callbacks
from tests.fuzz.budget import share
from tests.fuzz.callbacks import KEYS, NOW, TOLERANCE, URLS, Callback, expected_statuses, has_valid_credentials
from tests.fuzz.database import Database
from tests.fuzz.notification_rules import content, parse_or_none
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.settings import Source
from worker.store import tables
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool
from worker.sync.receive import receive
from worker.web import receiver, refusals
from worker.web.application import Application
from worker.web.group_commit import GroupCommit
from worker.web.receiver import BODY_LIMIT, Receiver

#: What may be logged beside information: level and phrase.
EXPECTED_LOG = {
    ("warning", "callbacks are refused"),
    ("warning", "signed requests arrive at a path that takes no callbacks"),
}

MAX_MEMORY_GROWTH = 5 * 2**20  # bytes, over 40 requests of a megabyte

Requests = list[Callback]


@dataclass
class Response:
    """What the receiver did with one request."""

    messages: list[Any] = field(default_factory=list)
    pulled: int = 0
    error: BaseException | None = None

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None


class Installation:
    """A receiver with a database that can be down, with or without a spool that takes notifications meanwhile."""

    def __init__(self, *, spools: bool) -> None:
        self.database = Database()
        self.database_is_down = False
        self.spool = Spool(self.database.folder / "spool.db") if spools else None
        self.log: list[tuple[str, str]] = []
        self.unhandled: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, context: self.unhandled.append(repr(context)))
        fallback = None if self.spool is None else _Fallback(self.spool)
        self._group = GroupCommit[Delivery](self._commit, writers=2 if spools else 1, fallback=fallback)
        sources = {
            name: Source(
                callback_url=URLS[name] or None,
                callback_keys=tuple(map(SecretStr, keys)),
                callback_tolerance=TOLERANCE,
                callback_unsigned="accept" if name in ("open", "both") else "reject",
            )
            for name, keys in KEYS.items()
        }
        self._endpoint = Receiver(sources, self._group, now=lambda: NOW)
        self._application = Application(self._endpoint, routes=[Route("/callbacks/{source}", self._endpoint, methods=["POST"])])

    def handle(self, requests: Sequence[Callback]) -> list[Response]:
        """Send all requests at once to an installation without rows. Return a response for each."""
        self.database.empty("vod_notification", "vod_sync_request")
        self.log.clear()
        log = _Log(self.log)
        with mock.patch.object(receiver, "log", log), mock.patch.object(refusals, "log", log):
            return self._loop.run_until_complete(self._handle_all(requests))

    def drain(self) -> None:
        """Move all spooled notifications into the database."""
        assert self.spool is not None
        while self.spool.move_oldest(self._store):
            pass

    def close(self) -> None:
        self._loop.run_until_complete(self._group.close())
        self._loop.close()
        if self.spool is not None:
            self.spool.close()
        self.database.close()

    def _commit(self, deliveries: Sequence[Delivery]) -> None:
        if self.database_is_down:
            raise StoreUnavailableError("the database is down")
        self._store(deliveries)

    def _store(self, deliveries: Sequence[Delivery]) -> None:
        receive(self.database.store, deliveries, now=NOW)

    async def _handle_all(self, requests: Sequence[Callback]) -> list[Response]:
        return await asyncio.gather(*map(self._handle, requests))

    async def _handle(self, request: Callback) -> Response:
        """Hand over a request as a server does, which sends header names in lower case and nothing after the end."""
        response = Response()
        waiting = list(request.chunks)

        async def pull() -> dict[str, Any]:
            response.pulled += 1
            if len(request.chunks) - len(waiting) == request.leaves_before:
                return {"type": "http.disconnect"}
            assert waiting, "the receiver reads beyond the end of the body"
            chunk = waiting.pop(0)
            message: dict[str, Any] = {"type": "http.request", "body": chunk}
            if waiting:
                message["more_body"] = True
            elif not chunk:
                del message["body"]
            return message

        async def push(message: Any) -> None:
            response.messages.append(message)

        scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": request.headers, "query_string": b""}
        try:
            if request.source == "default":
                await self._application(scope | {"path": "/callbacks"}, pull, push)
            elif request.by_router and request.source and "/" not in request.source:
                await self._application(scope | {"path": f"/callbacks/{request.source}"}, pull, push)
            else:
                await self._endpoint(scope | {"path": "/callbacks", "path_params": {"source": request.source}}, pull, push)
        except Exception as error:
            response.error = error
        return response


class _Fallback:
    database_is_down = False

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def save(self, deliveries: Sequence[Delivery], /) -> None:
        self._spool.put(deliveries)


class _Log:
    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self._lines = lines

    def __getattr__(self, level: str) -> Any:
        return lambda phrase, **fields: self._lines.append((level, phrase))


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    installation = Installation(spools=False)
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def spooling_installation() -> Iterator[Installation]:
    installation = Installation(spools=True)
    yield installation
    installation.close()


requests_of_any_size = callbacks.callbacks(callbacks.bodies)
request_groups = st.lists(requests_of_any_size, min_size=1, max_size=8)


@share(0.5)
@given(requests=request_groups)
def test_every_request_gets_one_correct_response_and_accepted_ones_are_stored(
    installation: Installation, requests: Requests
) -> None:
    installation.database_is_down = False

    responses = installation.handle(requests)

    check_responses(installation, requests, responses, database_is_down=False)
    check_rows(installation, requests, responses)


@share(0.05)
@given(requests=st.lists(callbacks.callbacks(callbacks.large_bodies), min_size=1, max_size=2))
def test_bodies_over_the_limit_are_refused(installation: Installation, requests: Requests) -> None:
    installation.database_is_down = False

    responses = installation.handle(requests)

    check_responses(installation, requests, responses, database_is_down=False)
    check_rows(installation, requests, responses)


@share(0.2)
@given(requests=request_groups)
def test_no_request_is_accepted_while_the_database_is_down(installation: Installation, requests: Requests) -> None:
    installation.database_is_down = True

    responses = installation.handle(requests)

    check_responses(installation, requests, responses, database_is_down=True)
    check_rows(installation, requests, responses)


@share(0.2)
@given(requests=request_groups)
def test_spooled_requests_are_stored_once_the_database_is_back(spooling_installation: Installation, requests: Requests) -> None:
    spooling_installation.database_is_down = True

    responses = spooling_installation.handle(requests)
    spooling_installation.drain()

    check_responses(spooling_installation, requests, responses, database_is_down=False)
    check_rows(spooling_installation, requests, responses)


def test_requests_of_any_outcome_leave_nothing_in_memory(installation: Installation) -> None:
    installation.database_is_down = False
    body = b'{"x":"' + b"x" * (BODY_LIMIT - 8) + b'"}'
    timestamp = str(int(NOW.timestamp()))
    good = callbacks.sign(URLS["default"], timestamp, KEYS["default"][0])
    requests = [
        Callback(
            source="default",
            headers=[(b"x-vod-timestamp", timestamp.encode()), (b"x-vod-signature", signature.encode()), (b"x", body[:200_000])],
            # The receiver joins them, so that each request has a body of its own.
            chunks=[body[:1000], body[1000:] + b"}" * surplus],
            leaves_before=leaves_before,
            by_router=False,
        )
        for signature, surplus, leaves_before in ((good, 0, None), (good, 1, None), (good, 0, 0), ("0" * 32, 0, None))
    ]

    tracemalloc.start()
    try:
        responses = installation.handle(requests)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            installation.handle(requests)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [response.status for response in responses] == [200, 413, None, 401]
    assert after - before < MAX_MEMORY_GROWTH


# Responses


def check_responses(installation: Installation, requests: Requests, responses: list[Response], *, database_is_down: bool) -> None:
    for request, response in zip(requests, responses, strict=True):
        assert response.error is None
        assert response.status in expected_statuses(request, database_is_down=database_is_down)
        assert response.status != 200 or has_valid_credentials(request)
        read = sum(map(len, request.chunks[: response.pulled]))
        assert read <= BODY_LIMIT + max(map(len, request.chunks))
        if response.status is not None:
            check_form(response)
    assert {line for line in installation.log if line[0] != "info"} <= EXPECTED_LOG
    assert installation.unhandled == []


def check_form(response: Response) -> None:
    assert [message["type"] for message in response.messages] == ["http.response.start", "http.response.body"]
    start, end = response.messages
    headers, body = dict(start["headers"]), end["body"]
    assert headers[b"content-length"] == b"%d" % len(body)
    assert not end.get("more_body")
    assert [key for keys in KEYS.values() for key in keys if key.encode() in body] == []
    if response.status == 200:
        assert body == b"ok"
    else:
        assert headers[b"content-type"] == b"application/json"
        assert msgspec.json.decode(body, type=dict[str, str]).keys() == {"error", "reason"}


# Rows


def check_rows(installation: Installation, requests: Requests, responses: list[Response]) -> None:
    accepted: dict[tuple[str, str], list[tuple[Callback, events.Notification]]] = {}
    for request, response in zip(requests, responses, strict=True):
        if response.status == 200:
            notification = parse_or_none(request.body)
            assert notification is not None
            accepted.setdefault((request.source, notification.event_key), []).append((request, notification))
    table, sync_request = tables.notification, tables.sync_request
    with installation.database.store.reading() as connection:
        rows = {(row.source, row.event_key): row for row in connection.execute(select(table))}
        requested = {(row.source, row.media_id) for row in connection.execute(select(sync_request))}

    assert Counter({key: row.deliveries for key, row in rows.items()}) == Counter(
        {key: len(deliveries) for key, deliveries in accepted.items()}
    )
    for key, deliveries in accepted.items():
        row = rows[key]
        # Other spellings of the same notification may have come, and any of them may be the one that is stored.
        assert stored_fields(row) in [expected_fields(notification) for _, notification in deliveries]
        assert parse_or_none(row.body.encode()) is not None
        assert len({content(request.body) for request, _ in deliveries} - {None}) <= 1
    assert requested == {
        (source, media_id)
        for (source, _), deliveries in accepted.items()
        for _, notification in deliveries
        if notification.needs_fetch
        for media_id in notification.media_ids
    }


def stored_fields(row: Any) -> tuple[Any, ...]:
    return row.event_type or "", row.media_id, row.event_time, row.status


def expected_fields(notification: events.Notification) -> tuple[Any, ...]:
    media_id = notification.media_ids[0] if notification.media_ids else None
    return notification.event_type, media_id, notification.event_time, notification.status
