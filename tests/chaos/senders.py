"""Act as VOD: upload and change assets, and send notifications with three tries each."""

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

#: Events of an upload and the second at which each is sent. The last one is sent after the upload is complete.
_UPLOAD_EVENTS = (
    (0.0, "MediaBaseChangeComplete"),
    (0.35, "FileUploadComplete"),
    (0.75, "VideoAnalysisComplete"),
    (2.1, "TranscodeComplete"),
)
_UPLOAD_SECONDS = 2.0

_UPDATE_EVENTS = ("VideoAnalysisComplete", "SnapshotComplete", "StreamTranscodeComplete", "TranscodeComplete")

#: VOD waits 5 seconds for a response and makes three tries within about 17 seconds (vod-protocol 1.2). Our pauses are shorter.
_TIMEOUT = 5.0  # seconds
_TRIES = 3

_UPLOAD_SHARE = 0.03  # steps that upload a new asset
_CHANGE_SHARE = 0.3  # notifications before which the asset is changed


@dataclass(slots=True)
class AssetRecord:
    """The accepted notifications of one asset."""

    #: Notifications that were answered with 200.
    accepted: int = 0
    #: The last of them was sent after the last change: the row must equal the emulator's record.
    is_current: bool = False


@dataclass(slots=True)
class DeliveryRecord:
    """The notifications that were sent, and the responses. Each sender has its own record."""

    sent: int = 0
    #: Serial numbers of the notifications that were answered with 200.
    accepted: set[int] = field(default_factory=set)
    assets: dict[str, AssetRecord] = field(default_factory=dict)
    #: Statuses other than 200, and kinds of error without a response.
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def merge(cls, records: Sequence[DeliveryRecord]) -> DeliveryRecord:
        """Return one record of many. No asset is in two of them."""
        merged = cls()
        for record in records:
            merged.sent += record.sent
            merged.accepted |= record.accepted
            merged.assets |= record.assets
            merged.refused += record.refused
        return merged


class Sender(threading.Thread):
    """Sends notifications of the assets in `library`, which no other sender uses, and of its own uploads."""

    def __init__(
        self, *, seed: str, library: Sequence[str], emulator_url: str, callback_url: str, ports: Sequence[int], per_second: float
    ) -> None:
        super().__init__(name=f"sender {seed}", daemon=True)
        self.record = DeliveryRecord()
        self.error: BaseException | None = None
        self._seed = seed
        self._random = random.Random(f"{seed}:sender")
        self._library = library
        self._emulator = httpx.Client(base_url=emulator_url, timeout=20, trust_env=False)
        self._callback_url = callback_url
        self._ports = ports
        self._mean_interval = 1 / per_second
        self._stopped = threading.Event()
        #: Events of uploads that are still to be sent: time, tie-breaker, media id, event type.
        self._scheduled: list[tuple[float, int, str, str]] = []

    def stop(self) -> None:
        """Finish the current notification and send no others."""
        self._stopped.set()

    def run(self) -> None:
        try:
            while not self._stopped.wait(self._random.expovariate(1 / self._mean_interval)):
                self._step()
        except BaseException as error:
            # Without this, a sender that fails looks like one that has finished.
            self.error = error
        finally:
            self._emulator.close()

    def _step(self) -> None:
        now = time.monotonic()
        if self._scheduled and self._scheduled[0][0] <= now:
            _, _, media_id, event_type = heapq.heappop(self._scheduled)
            self._notify(media_id, event_type, last=event_type == _UPLOAD_EVENTS[-1][1])
        elif self._random.random() < _UPLOAD_SHARE:
            self._upload(now)
        else:
            self._update(self._random.choice(self._library))

    def _upload(self, now: float) -> None:
        response = self._emulator.post("/uploads", json={"count": 1, "life_seconds": _UPLOAD_SECONDS, "notify": False})
        (media_id,) = response.raise_for_status().json()["media_ids"]
        for after, event_type in _UPLOAD_EVENTS:
            heapq.heappush(self._scheduled, (now + after, next(_serial), media_id, event_type))

    def _update(self, media_id: str) -> None:
        if self._random.random() < _CHANGE_SHARE:
            title = f"{media_id} as of {next(_serial)}"
            self._emulator.post(f"/media/{media_id}/change", json={"Title": title}).raise_for_status()
            self.record.assets.setdefault(media_id, AssetRecord()).is_current = False
        self._notify(media_id, self._random.choice(_UPDATE_EVENTS), last=True)

    def _notify(self, media_id: str, event_type: str, *, last: bool) -> None:
        """Send one notification up to three times until 200, each time to a random receiver."""
        serial = next(_serial)
        asset = self.record.assets.setdefault(media_id, AssetRecord())
        event_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body: dict[str, Any] = {"EventType": event_type, "EventTime": event_time, "Status": "success", "VideoId": media_id}
        content = json.dumps(body | {"Serial": serial}).encode()
        self.record.sent += 1
        for number in range(_TRIES):
            if number:
                time.sleep(self._random.uniform(0.3, 1.5))
            outcome = self._try(content)
            if outcome == "200":
                self.record.accepted.add(serial)
                asset.accepted += 1
                asset.is_current = asset.is_current or last
                return
            self.record.refused[outcome] += 1

    def _try(self, content: bytes) -> str:
        """Return the status, or the kind of error without a response."""
        client = http.client.HTTPConnection("127.0.0.1", self._random.choice(self._ports), timeout=_TIMEOUT)
        try:
            client.request("POST", "/callbacks", content, signed(content, url=self._callback_url))
            response = client.getresponse()
            response.read()
        except TimeoutError:
            return "timeout"
        except (OSError, http.client.HTTPException):
            return "unreachable"
        finally:
            client.close()
        return str(response.status)


_serial = itertools.count(1)
