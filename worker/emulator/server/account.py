"""One VOD account: the parts of an emulator, connected, and the changes that its owner can make."""

from __future__ import annotations

import time

from worker.emulator.api.faults import FaultInjector
from worker.emulator.api.gateway import Endpoint, Gateway
from worker.emulator.api.listing import Listing
from worker.emulator.api.operations import Operations
from worker.emulator.api.rate_limit import RateLimiter
from worker.emulator.api.scroll import ScrollTokens
from worker.emulator.api.search import Search
from worker.emulator.api.signature import SignatureVerifier
from worker.emulator.library import events
from worker.emulator.library.event_sequences import ImmediateEvents, UploadEvents
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.library import Library
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.notifier import Notifier
from worker.emulator.smq.api import SmqApi
from worker.emulator.smq.signature import SmqSignatureVerifier
from worker.emulator.smq.smq_queue import SmqQueue

#: GetMessageCallback calls per second. VOD publishes this limit for SetMessageCallback only (vod-protocol 5).
_MESSAGE_CALLBACK_QPS = 15

#: Fields of MediaInfo whose change VOD notifies (vod-protocol 2.8).
_NOTIFIED_FIELDS = ("Title", "Description", "CoverURL", "CateId", "Tags")


class Account:
    """The library, the API, the queue and the notifier of one configuration."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.config = config
        self.library = Library(seed=config.seed, existing=config.media, quirks=config.quirks)
        self.injector = FaultInjector(config.seed)
        self.queue = SmqQueue(config.smq_visibility)
        self.notifier = Notifier(config, self.injector, self.queue)
        self.endpoints = self._make_endpoints()
        credentials = (config.access_key_id, config.access_key_secret, config.security_token)
        self.gateway = Gateway(self.endpoints, SignatureVerifier(*credentials), self.injector, latency=config.latency)
        self.smq_api = SmqApi(config.smq_queue, self.queue, SmqSignatureVerifier(*credentials), self.injector)

    def upload(
        self, count: int, *, life_seconds: float | None = None, damaged: bool = False, notify: bool = True, now: float | None = None
    ) -> list[str]:
        """Announce `count` uploads and return their media ids.

        `life_seconds` defaults to that of the configuration, `now` (unix seconds) to the current time.
        """
        upload = self.library.add(
            count,
            now=time.time() if now is None else now,
            life_seconds=self.config.life_seconds if life_seconds is None else life_seconds,
            damaged=damaged,
        )
        indices = range(upload.first, upload.first + count)
        if notify:
            for index in indices:
                self.notifier.schedule(UploadEvents(self.library, upload, index))
        return [self.library.ids.media_id(index) for index in indices]

    def change(self, index: int, fields: JsonObject, now: float, *, notify: bool = True) -> None:
        """Change fields of MediaInfo, and send the notification if `notify` is set."""
        media_id = self.library.ids.media_id(index)
        before = self.library.change(index, fields, now)
        if not notify:
            return
        old_values = {name: value for name, value in before.items() if name in _NOTIFIED_FIELDS}
        new_values = {name: value for name, value in fields.items() if name in _NOTIFIED_FIELDS}
        event = events.base_change_event(media_id, "update", now, before=old_values, after=new_values)
        self.notifier.schedule(ImmediateEvents(now, [event]))

    def delete(self, index: int, delete_type: str, job_ids: tuple[str, ...], now: float, *, notify: bool = True) -> None:
        """Delete the asset, its source file or some of its streams, and send the notifications if `notify` is set.

        `delete_type` is all, mezzanine, or stream with the job ids of the streams.
        """
        media_id = self.library.ids.media_id(index)
        self.library.delete(index, now, file_only=delete_type == "mezzanine", job_ids=job_ids)
        if not notify:
            return
        bodies = [events.deletion_event(media_id, delete_type, now, job_ids)]
        if delete_type == "all":
            title = self.library.documented_element(index)["MediaInfo"]["Title"]
            bodies.append(events.base_change_event(media_id, "delete", now, before={"Title": title}))
        self.notifier.schedule(ImmediateEvents(now, bodies))

    def _make_endpoints(self) -> dict[str, Endpoint]:
        config = self.config
        plain = not config.quirks
        operations = Operations(self.library, self.injector, message_callback(config), plain=plain)
        search = Search(self.library, self.injector)
        listing = Listing(search, ScrollTokens(config.seed, config.scroll_seconds), plain=plain)
        return {
            "BatchGetMediaInfos": Endpoint(operations.batch_get_media_infos, RateLimiter(config.batch_qps)),
            "GetVideoInfo": Endpoint(operations.get_video_info, RateLimiter(config.video_info_qps)),
            "SearchMedia": Endpoint(listing.search_media, RateLimiter(config.search_qps)),
            "GetMessageCallback": Endpoint(operations.get_message_callback, RateLimiter(_MESSAGE_CALLBACK_QPS)),
        }


def message_callback(config: EmulatorConfig) -> dict[str, str]:
    """Return the callback settings as GetMessageCallback does (vod-protocol 1.4).

    VOD has one channel, HTTP or queue. If the configuration has both, the answer is the HTTP callback.
    """
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
