"""The receiver under any request: one well-formed answer each, nothing forged accepted, and what is accepted is stored."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest import mock

import msgspec
from pydantic import SecretStr
from sqlalchemy import select
from starlette.routing import Route

from tests.fuzz import grammar, mutation, notifications, seeds
from tests.fuzz.database import Database
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.settings import Source
from worker.store import tables
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool
from worker.sync.receive import receive
from worker.web import receiver
from worker.web.application import Application
from worker.web.group_commit import GroupCommit
from worker.web.receiver import BODY_LIMIT, Receiver

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOLERANCE = 300
URL, STUDIO_URL = "https://media.example.org/hooks/vod?env=prod", "https://studio.example.org/hooks/vod"
KEYS = {
    "default": ("Fuzz7CallbackKey", "Fuzz7CallbackKeyBefore"),
    "studio": ("Fuzz7StudioKey",),
    "open": (),
    "both": ("Fuzz7BothKey",),
}
URLS = {"default": URL, "studio": STUDIO_URL, "open": "", "both": URL}

#: What is logged beside information.
_EXPECTED = (("error", "notification not stored"), ("warning", "callbacks are refused from now on"))

#: Bytes by which the process may grow over a whole run.
_GROWTH = 400 * 2**20

Headers = list[tuple[bytes, bytes]]


@dataclass
class Case:
    source: str
    headers: Headers
    chunks: list[bytes]
    #: Signed as VOD signs.
    honest: bool
    #: The sender goes away before the end.
    leaves: bool
    #: "well", "down" (the database takes nothing) or "spooling" (a file takes it instead); the first of a group decides.
    weather: str
    by_router: bool
    sent: list[Any] = field(default_factory=list, repr=False)
    pulled: int = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Receiving:
    name = "receiver"
    group = 128

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self._database = Database()
        self._spool = Spool(self._database.folder / "spool.db")
        self._loop = asyncio.new_event_loop()
        self._unhandled: list[str] = []
        self._loop.set_exception_handler(lambda _loop, context: self._unhandled.append(repr(context)))
        self._down = False
        self._memory: int | None = None
        self._plain = GroupCommit[Delivery](self._commit)
        self._spooling = GroupCommit[Delivery](self._commit, writers=2, fallback=_Standby(self._spool))
        self._applications = {name: _application(group) for name, group in (("plain", self._plain), ("spooling", self._spooling))}

    def close(self) -> None:
        self._loop.run_until_complete(self._plain.close())
        self._loop.run_until_complete(self._spooling.close())
        self._loop.close()
        self._spool.close()
        self._database.close()

    def make(self, rng: Random) -> Case:
        source = rng.choice(("default", "default", "default", "studio", "open", "both"))
        if rng.random() < 0.03:
            source = rng.choice(("", "nobody", "DEFAULT", "default ", "..", "\u00e9", "\0", "\ud800", "x" * 5000))
        body = _large(rng) if rng.random() < 0.001 else mutation.message(rng, seeds.NOTIFICATIONS)
        headers, honest = _credentials(rng, source)
        announced = _length(rng, len(body))
        headers += announced
        for _ in range(rng.choice((0, 0, 1, 3))):
            headers.append((_name(rng), _octets(rng)))
        rng.shuffle(headers)
        chunks = [body] if rng.random() < 0.5 else _chunks(rng, body)
        dice = rng.random()
        return Case(
            source=source,
            headers=headers,
            chunks=chunks,
            honest=honest,
            leaves=rng.random() < 0.02,
            weather="down" if dice < 0.06 else "spooling" if dice < 0.15 else "well",
            by_router=rng.random() < 0.1,
        )

    def check(self, cases: Sequence[Case]) -> Iterator[tuple[Case, str]]:
        self._database.empty("vod_notification", "vod_sync_request")
        for case in cases:
            case.sent.clear()
            case.pulled = 0
        weather = cases[0].weather
        self._down = weather != "well"
        application = self._applications["spooling" if weather == "spooling" else "plain"]
        log: list[tuple[str, str]] = []
        with _watched(log):
            raised = self._loop.run_until_complete(self._all(application, cases))
        if weather == "spooling":
            self._down = False
            while self._spool.drain(lambda deliveries: receive(self._database.store, deliveries, now=NOW)):
                pass
        accepted: list[tuple[Case, events.Notification]] = []
        for case, error in zip(cases, raised, strict=True):
            if error is not None:
                yield case, f"{type(error).__name__} escaped: {error}"
                continue
            status = _status(case)
            self.tally[str(status or "none")] += 1
            for complaint in _complaints(case, status, down=weather == "down"):
                yield case, complaint
            if status == 200 and (found := notifications.read(case.body)):
                accepted.append((case, found))
        yield from self._stored(cases[0], accepted)
        for level, phrase in log:
            if (level, phrase) not in _EXPECTED and level != "info":
                yield cases[0], f"logged as {level}: {phrase}"
        for context in self._unhandled:
            yield cases[0], f"nobody handled {context}"
        self._unhandled.clear()
        yield from self._growth(cases[0])

    async def _all(self, application: Any, cases: Sequence[Case]) -> list[BaseException | None]:
        return await asyncio.gather(*(_deliver(application, case) for case in cases), return_exceptions=True)

    def _commit(self, deliveries: Sequence[Delivery]) -> None:
        if self._down:
            raise StoreUnavailableError("the database is away")
        receive(self._database.store, deliveries, now=NOW)

    def _stored(self, first: Case, accepted: list[tuple[Case, events.Notification]]) -> Iterator[tuple[Case, str]]:
        table, request = tables.notification, tables.sync_request
        with self._database.store.reading() as connection:
            rows = {(row.source, row.event_key): row for row in connection.execute(select(table))}
            asked = {(row.source, row.media_id) for row in connection.execute(select(request.c.source, request.c.media_id))}
        expected = Counter((case.source, found.event_key) for case, found in accepted)
        if {key: row.deliveries for key, row in rows.items()} != dict(expected):
            yield first, f"{len(rows)} rows stand for {len(expected)} accepted notifications"
        contents = {(case.source, notifications.content(case.body)) for case, _ in accepted}
        if len(rows) < len(contents - {(name, None) for name in KEYS}):
            yield first, "two notifications share a row"
        first_of: set[tuple[str, str]] = set()
        wanted = set()
        for case, found in accepted:
            row = rows.get((case.source, found.event_key))
            if found.needs_fetch:
                wanted |= {(case.source, media_id) for media_id in found.media_ids}
            if row is None:
                yield case, "accepted and not stored"
            elif (case.source, found.event_key) not in first_of:
                first_of.add((case.source, found.event_key))
                # Another spelling of the same notification may have come first.
                same = read_back(row) == (found.event_type, found.media_ids[:1], found.event_time, found.status)
                if not same or not notifications.read(row.body.encode()):
                    yield case, f"stored as something else: {read_back(row)}"
        if asked != wanted:
            yield first, f"asked for {sorted(asked ^ wanted)[:5]}"

    def _growth(self, first: Case) -> Iterator[tuple[Case, str]]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self._memory is None:
            self._memory = peak
        elif peak > self._memory + _GROWTH:
            yield first, f"memory grew by {(peak - self._memory) >> 20} MiB"
            self._memory = peak


def read_back(row: Any) -> tuple[Any, ...]:
    return row.event_type or "", () if row.media_id is None else (row.media_id,), row.event_time, row.status


class _Standby:
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


@contextmanager
def _watched(lines: list[tuple[str, str]]) -> Iterator[None]:
    with mock.patch.object(receiver, "log", _Log(lines)):
        yield


def _application(group: GroupCommit[Delivery]) -> Application:
    sources = {
        name: Source(
            callback_url=URLS[name] or None,
            callback_keys=tuple(map(SecretStr, KEYS[name])),
            callback_tolerance=TOLERANCE,
            callback_unsigned="accept" if name in ("open", "both") else "reject",
        )
        for name in KEYS
    }
    endpoint = Receiver(sources, group, now=lambda: NOW)
    application = Application(endpoint, routes=[Route("/callbacks/{source}", endpoint, methods=["POST"])])
    application.state.endpoint = endpoint
    return application


async def _deliver(application: Application, case: Case) -> None:
    """One request as a server hands it over. A server never sends a name in upper case, nor anything after the end."""
    waiting = list(case.chunks)
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/callbacks", "headers": case.headers, "query_string": b""}

    async def pull() -> dict[str, Any]:
        case.pulled += 1
        if case.leaves and len(waiting) <= len(case.chunks) // 2:
            return {"type": "http.disconnect"}
        if not waiting:
            raise AssertionError("read beyond the end")
        chunk = waiting.pop(0)
        message: dict[str, Any] = {"type": "http.request", "body": chunk}
        if waiting:
            message["more_body"] = True
        elif not chunk:
            del message["body"]
        return message

    async def push(message: Any) -> None:
        case.sent.append(message)

    if case.source != "default" and (case.by_router and case.source and "/" not in case.source):
        await application(scope | {"path": f"/callbacks/{case.source}"}, pull, push)
    elif case.source == "default":
        await application(scope, pull, push)
    else:
        await application.state.endpoint(scope | {"path_params": {"source": case.source}}, pull, push)


def _status(case: Case) -> int | None:
    return case.sent[0]["status"] if case.sent else None


def _complaints(case: Case, status: int | None, *, down: bool) -> Iterator[str]:
    expected = _expected(case, down)
    if status not in expected:
        yield f"answered {status} where {sorted(map(str, expected))} was to be expected: {case.sent[1:]}"
    if status == 200 and not _signed(case):
        yield "accepted without a signature"
    pulled = sum(map(len, case.chunks[: case.pulled]))
    if pulled > BODY_LIMIT + max(map(len, case.chunks), default=0):
        yield f"{pulled} bytes were read"
    if status is None:
        return
    if [message["type"] for message in case.sent] != ["http.response.start", "http.response.body"]:
        yield f"not one answer: {case.sent}"
        return
    headers, body = dict(case.sent[0]["headers"]), case.sent[1]["body"]
    if headers.get(b"content-length") != b"%d" % len(body) or case.sent[1].get("more_body"):
        yield "the answer's length is wrong"
    if any(key.encode() in body for keys in KEYS.values() for key in keys):
        yield "a key stands in the answer"
    if status == 200:
        if body != b"ok":
            yield f"accepted with {body!r}"
    elif headers[b"content-type"] != b"application/json" or msgspec.json.decode(body, type=dict[str, str]).keys() != {
        "error",
        "reason",
    }:
        yield f"no error in our shape: {body!r}"


def _expected(case: Case, down: bool) -> set[int | None]:
    """The answers that this request may get, worked out without our parser and our signature check."""
    if case.source not in KEYS:
        return {404}
    if not case.honest and not _signed(case):
        return {401}
    found: set[int | None] = set() if case.honest else {401}
    if case.leaves:
        found |= {None}
    if len(case.body) > BODY_LIMIT or _announced(case) > BODY_LIMIT:
        return found | {413}
    takes = notifications.stdlib_takes(case.body)
    if takes is not False:
        found |= {503 if down else 200}
    if takes is not True:
        found |= {400}
    return found


def _announced(case: Case) -> int:
    values = [value for name, value in case.headers if name == b"content-length"]
    return int(values[-1][:20]) if values and values[-1].isdigit() else 0


def _signed(case: Case) -> bool:
    """Whether among the headers there is one fresh timestamp with its signature, or none is needed."""
    stamps = [value for name, value in case.headers if name == b"x-vod-timestamp"]
    digests = [value for name, value in case.headers if name == b"x-vod-signature"]
    if case.source == "open" or (case.source == "both" and not stamps and not digests):
        return True
    return any(_matches(case.source, stamp, digest) for stamp in stamps for digest in digests)


def _matches(source: str, stamp: bytes, digest: bytes) -> bool:
    # Blanks around a value are not part of it.
    said = stamp.decode("latin-1").strip()
    try:
        fresh = abs(int(said) - int(NOW.timestamp())) <= TOLERANCE
    except ValueError:
        return False
    return fresh and digest.decode("latin-1").strip().lower() in {_digest(URLS[source], said, key) for key in KEYS[source]}


def _digest(url: str, stamp: str, key: str) -> str:
    return hashlib.md5(f"{url}|{stamp}|{key}".encode(), usedforsecurity=False).hexdigest()


# Requests


def _credentials(rng: Random, source: str) -> tuple[Headers, bool]:
    """Headers, and whether VOD would have sent them."""
    keys, url = KEYS.get(source) or ("",), URLS.get(source, URL)
    stamp = str(int(NOW.timestamp()) + rng.randint(-TOLERANCE, TOLERANCE))
    digest = _digest(url, stamp, rng.choice(keys))
    honest = bool(KEYS.get(source)) or source == "open"
    good = [(b"x-vod-timestamp", stamp.encode()), (b"x-vod-signature", digest.encode())]
    dice = rng.random()
    if dice < 0.62:
        return good, honest
    if dice < 0.65:
        return [(b"x-vod-timestamp", f" {stamp}\t".encode()), (b"x-vod-signature", digest.upper().encode())], honest
    if dice < 0.68:
        return rng.sample(good, rng.randint(0, 1)), source == "open"
    if dice < 0.74:
        # Twice, with something else in between; which of them counts is the server's affair.
        return [*good, (rng.choice(good)[0], _octets(rng))], False
    if dice < 0.8:
        away = int(NOW.timestamp()) + rng.choice((-1, 1)) * rng.choice((TOLERANCE + 1, 86_400, 10**9, 10**19))
        return [(b"x-vod-timestamp", b"%d" % away), (b"x-vod-signature", _digest(url, str(away), keys[0]).encode())], False
    if dice < 0.86:
        wrong = _digest(rng.choice((url, url + "/", "")), stamp, rng.choice(("", "test123", keys[0].lower(), "None")))
        return [good[0], (b"x-vod-signature", wrong.encode())], False
    if dice < 0.92:
        return [good[0], (b"x-vod-signature", mutation.harmed(rng, digest.encode(), [b"0" * 32])[:10_000])], False
    if dice < 0.96:
        odd = mutation.harmed(rng, stamp.encode(), [b"1e9", b"\xb2", b"-0", b"+5", b"1_0"])[:10_000]
        return [(b"x-vod-timestamp", odd), (b"x-vod-signature", _digest(url, odd.decode("latin-1"), keys[0]).encode())], False
    return [(b"x-vod-timestamp", _octets(rng)), (b"x-vod-signature", _octets(rng))], False


def _length(rng: Random, length: int) -> Headers:
    dice = rng.random()
    if dice < 0.8:
        return [(b"content-length", b"%d" % length)]
    if dice < 0.9:
        return []
    odd = (
        b"",
        b"0",
        b"-1",
        b"1e9",
        b"9" * 30,
        b"9" * 5000,
        b"0" * 30 + b"5",
        b"\xb2",
        b"1048576",
        b"1048577",
        b" 5",
        b"5,5",
        b"\0",
    )
    return [(b"content-length", rng.choice(odd))]


def _name(rng: Random) -> bytes:
    names = (
        b"content-type",
        b"user-agent",
        b"transfer-encoding",
        b"x-vod-timestamp ",
        b"x_vod_signature",
        b"host",
        b"expect",
        b"",
        b"\xff",
    )
    return rng.choice(names)


def _octets(rng: Random) -> bytes:
    dice = rng.random()
    if dice < 0.5:
        return grammar.text(rng).encode("utf-8", "surrogatepass")
    if dice < 0.95:
        return rng.randbytes(rng.choice((0, 1, 10, 32)))
    return rng.choice((b"\0", b"a", b"\xff", b"9")) * rng.choice((5000, 100_000))


def _chunks(rng: Random, body: bytes) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(body)) for _ in range(rng.randint(0, 6)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _large(rng: Random) -> bytes:
    """About as much as is taken."""
    head, tail = b'{"VideoId":"a","x":"', b'"}'
    room = BODY_LIMIT - len(head) - len(tail)
    return (
        head
        + rng.choice((b"x", b"\\", b"\\u0026", b"?auth_key=1&"))[:1] * (room + rng.choice((-1, 0, 1, 5000, 300_000)) & ~1)
        + tail
    )
