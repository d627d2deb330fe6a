"""One account at VOD: its media, its quota, its callbacks, and what has been asked and told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.emulator.api.call_stats import CallStats
from worker.emulator.api.faults import FaultInjector
from worker.emulator.api.listing import Listing
from worker.emulator.api.operations import Operations
from worker.emulator.api.rate_limit import RateLimiter
from worker.emulator.api.scroll import Scroll
from worker.emulator.api.search import Search
from worker.emulator.api.signature import SignatureVerifier
from worker.emulator.library import events
from worker.emulator.library.library import Library
from worker.emulator.library.timeline import Upload
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.notifier import Notifier
from worker.emulator.smq.smq_queue import SmqQueue


class Account:
    """The parts of a running emulator, put together from its configuration."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.config = config
        self.library = Library(seed=config.seed, existing=config.media, quirks=config.quirks)
        self.mischief = FaultInjector(config.seed)
        self.operations = Operations(self.library, self.mischief, _message_callback(config), plain=not config.quirks)
        self.listing = Listing(
            Search(self.library, self.mischief), Scroll(config.seed, config.scroll_seconds), plain=not config.quirks
        )
        self.gatekeeper = SignatureVerifier(config.access_key_id, config.access_key_secret, config.security_token)
        self.mailbox = SmqQueue(config.smq_visibility)
        self.notifier = Notifier(config, self.mischief, self.mailbox)
        self.quotas = {
            "BatchGetMediaInfos": RateLimiter(config.batch_qps),
            "GetVideoInfo": RateLimiter(config.video_info_qps),
            "SearchMedia": RateLimiter(config.search_qps),
            "GetMessageCallback": RateLimiter(15),
        }
        self.forget_calls()

    def forget_calls(self) -> None:
        self.calls = {operation: CallStats() for operation in self.quotas}

    def upload(
        self, count: int, *, life_seconds: float | None = None, damaged: bool = False, notify: bool = True, now: float | None = None
    ) -> list[str]:
        """Announce `count` uploads and start their lives; their media ids."""
        upload = self.library.add(
            count,
            now=time.time() if now is None else now,
            life_seconds=self.config.life_seconds if life_seconds is None else life_seconds,
            damaged=damaged,
        )
        indices = range(upload.first, upload.first + count)
        if notify:
            for index in indices:
                self.notifier.tell(Life(self.library, upload, index))
        return [self.library.identities.media_id(index) for index in indices]

    def change(self, index: int, fields: dict[str, Any], now: float, *, notify: bool = True) -> None:
        """Change fields of MediaInfo, and tell unless it is to happen behind everybody's back."""
        media_id = self.library.identities.media_id(index)
        before = self.library.change(index, fields, now)
        if not notify:
            return
        told = ("Title", "Description", "CoverURL", "CateId", "Tags")
        old = {name: value for name, value in before.items() if name in told}
        new = {name: value for name, value in fields.items() if name in told}
        self.notifier.tell(News(now, [events.base_change(media_id, "update", now, before=old, after=new)]))

    def delete(self, index: int, kind: str, jobs: tuple[str, ...], now: float, *, notify: bool = True) -> None:
        """Delete `kind` (all, mezzanine or stream), and tell unless it is to happen behind everybody's back."""
        media_id = self.library.identities.media_id(index)
        self.library.delete(index, now, source=kind == "mezzanine", jobs=jobs)
        if not notify:
            return
        told = [events.deletion(media_id, kind, now, jobs)]
        if kind == "all":
            title = self.library.documented(index)["MediaInfo"]["Title"]
            told.append(events.base_change(media_id, "delete", now, before={"Title": title}))
        self.notifier.tell(News(now, told))


@dataclass(frozen=True, slots=True)
class Life:
    """The events of one upload; a few words of memory, whatever there is to tell."""

    library: Library
    upload: Upload
    index: int

    def __len__(self) -> int:
        return len(self.library.steps(self.index))

    def due(self, number: int) -> float:
        return self.upload.started_at + self.library.steps(self.index)[number].share * self.upload.life_seconds

    def body(self, number: int) -> dict[str, Any]:
        return events.body(
            self.library.steps(self.index)[number],
            self.library.documented(self.index),
            at=self.due(number),
            plan=self.library.outline(self.index),
            damaged=self.upload.damaged,
        )


@dataclass(frozen=True, slots=True)
class News:
    """Events of something that was done by hand, ready to be sent."""

    at: float
    bodies: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.bodies)

    def due(self, number: int) -> float:
        return self.at

    def body(self, number: int) -> dict[str, Any]:
        return self.bodies[number]


def _message_callback(config: EmulatorConfig) -> dict[str, str]:
    """The callback settings as VOD tells them (vod-protocol 1.4). One of both channels is all that VOD has room for."""
    if config.smq_queue and not config.callback_url:
        queue = {"CallbackType": "MNS", "MnsEndpoint": "", "MnsQueueName": config.smq_queue}
        return {"AppId": "app-1000000", **queue, "AuthSwitch": "off", "EventTypeList": "ALL"}
    return {
        "AppId": "app-1000000",
        "CallbackType": "HTTP",
        "CallbackURL": config.callback_url,
        "AuthSwitch": "on" if config.callback_key else "off",
        "AuthKey": config.callback_key,
        "EventTypeList": "ALL" if config.callback_url else "",
    }
