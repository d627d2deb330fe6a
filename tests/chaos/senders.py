"""VOD's part: media that come and change, and notifications of them with three tries each."""

from __future__ import annotations

import heapq
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.system.installation import signed

#: Events of an upload by the second in which they are sent; the last one after everything has happened.
_LIFE = (
    (0.0, "MediaBaseChangeComplete"),
    (0.35, "FileUploadComplete"),
    (0.75, "VideoAnalysisComplete"),
    (2.1, "TranscodeComplete"),
)
_LIFE_SECONDS = 2.0

_HINTS = ("VideoAnalysisComplete", "SnapshotComplete", "StreamTranscodeComplete", "TranscodeComplete")

#: VOD waits 5 seconds for an answer and makes its three tries within some 17 (vod-protocol 1.2); our pauses are shorter.
_TIMEOUT, _TRIES = 5.0, 3

#: What is not about a medium that exists already: an upload; what changes one before it tells of it.
_UPLOADS, _CHANGES = 0.03, 0.3


@dataclass(slots=True)
class Told:
    """What was promised about one medium."""

    #: Notifications of it that were answered 200.
    answered: int = 0
    #: The last of them was sent after the last change: the row has to be what the emulator shows.
    current: bool = False


@dataclass(slots=True)
class Ledger:
    """What was sent and what came back. Each sender writes its own; together they are what the promise is about."""

    sent: int = 0
    #: Serial numbers of the notifications that were answered 200.
    answered: set[int] = field(default_factory=set)
    media: dict[str, Told] = field(default_factory=dict)
    #: Statuses other than 200, and what came in place of one.
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def together(cls, ledgers: Sequence[Ledger]) -> Ledger:
        """One ledger of many; no medium is in two of them."""
        whole = cls()
        for each in ledgers:
            whole.sent += each.sent
            whole.answered |= each.answered
            whole.media |= each.media
            whole.refused += each.refused
        return whole


class Sender(threading.Thread):
    """Tells of the media in `library`, which no other sender touches, and of uploads of its own."""

    def __init__(
        self, *, seed: str, library: Sequence[str], emulator_url: str, callback_url: str, ports: Sequence[int], per_second: float
    ) -> None:
        super().__init__(name=f"sender {seed}", daemon=True)
        self.ledger = Ledger()
        self.error: BaseException | None = None
        self._seed = seed
        self._chance = random.Random(f"{seed}:sender")
        self._library = library
        self._emulator = httpx.Client(base_url=emulator_url, timeout=20, trust_env=False)
        self._callback_url = callback_url
        self._ports = ports
        self._gap = 1 / per_second
        self._stopped = threading.Event()
        #: Events of uploads that are still to come: when, tie-breaker, medium, event type.
        self._agenda: list[tuple[float, int, str, str]] = []

    def stop(self) -> None:
        """What is being tried is tried to its end; the rest of an upload's life stays untold."""
        self._stopped.set()

    def run(self) -> None:
        try:
            while not self._stopped.wait(self._chance.expovariate(1 / self._gap)):
                self._step()
        except BaseException as error:
            # A sender that breaks must not look like a quiet one.
            self.error = error
        finally:
            self._emulator.close()

    def _step(self) -> None:
        now = time.monotonic()
        if self._agenda and self._agenda[0][0] <= now:
            _, _, media_id, event_type = heapq.heappop(self._agenda)
            self._tell(media_id, event_type, last=event_type == _LIFE[-1][1])
        elif self._chance.random() < _UPLOADS:
            self._upload(now)
        else:
            self._hint(self._chance.choice(self._library))

    def _upload(self, now: float) -> None:
        answer = self._emulator.post("/uploads", json={"count": 1, "life_seconds": _LIFE_SECONDS, "notify": False})
        (media_id,) = answer.raise_for_status().json()["media_ids"]
        for after, event_type in _LIFE:
            heapq.heappush(self._agenda, (now + after, next(_serial), media_id, event_type))

    def _hint(self, media_id: str) -> None:
        if self._chance.random() < _CHANGES:
            title = f"{media_id} as of {next(_serial)}"
            self._emulator.post(f"/media/{media_id}/change", json={"Title": title}).raise_for_status()
            self.ledger.media.setdefault(media_id, Told()).current = False
        self._tell(media_id, self._chance.choice(_HINTS), last=True)

    def _tell(self, media_id: str, event_type: str, *, last: bool) -> None:
        """One notification, tried until 200 or three times, at whichever receiver the load balancer takes."""
        serial = next(_serial)
        told = self.ledger.media.setdefault(media_id, Told())
        event_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body: dict[str, Any] = {"EventType": event_type, "EventTime": event_time, "Status": "success", "VideoId": media_id}
        content = json.dumps(body | {"Serial": serial}).encode()
        self.ledger.sent += 1
        for number in range(_TRIES):
            if number:
                time.sleep(self._chance.uniform(0.3, 1.5))
            outcome = self._try(content)
            if outcome == "200":
                self.ledger.answered.add(serial)
                told.answered += 1
                told.current = told.current or last
                return
            self.ledger.refused[outcome] += 1

    def _try(self, content: bytes) -> str:
        """The status, or what came in place of one."""
        client = http.client.HTTPConnection("127.0.0.1", self._chance.choice(self._ports), timeout=_TIMEOUT)
        try:
            client.request("POST", "/callbacks", content, signed(content, url=self._callback_url))
            answer = client.getresponse()
            answer.read()
        except TimeoutError:
            return "timeout"
        except (OSError, http.client.HTTPException):
            return "unreachable"
        finally:
            client.close()
        return str(answer.status)


_serial = itertools.count(1)
