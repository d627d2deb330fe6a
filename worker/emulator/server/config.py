"""How one emulator is set up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """Everything that is fixed while an emulator runs; faults and uploads come later, through the control API."""

    host: str = "127.0.0.1"
    #: 0 takes a free port.
    port: int = 9000

    access_key_id: str = "demoKeyId"
    access_key_secret: str = field(default="demoSecret", repr=False)
    #: Where set, only calls with this STS token are accepted.
    security_token: str = field(default="", repr=False)
    region: str = "cn-shanghai"

    #: Size of the library that exists before the first upload.
    media: int = 0
    seed: int = 1
    #: False gives answers as the documents promise them, without the habits of vod-protocol 7.
    quirks: bool = True

    #: Calls per second of the whole account, 0 = unlimited (vod-protocol 5; VOD does not publish the first one).
    batch_qps: int = 20
    video_info_qps: int = 100
    search_qps: int = 50
    #: Seconds until a ScrollToken expires; VOD does not say (vod-protocol 6.1).
    scroll_seconds: float = 600.0
    #: Seconds before each answer of the API.
    latency: float = 0.0

    #: Seconds from the announcement of an upload to its last transcoded stream; 0 = all at once.
    life_seconds: float = 1.5
    #: Without a URL no notifications are sent. The URL enters the signature exactly as written here.
    callback_url: str = ""
    callback_key: str = field(default="", repr=False)
    #: Notifications under way at the same time.
    callback_connections: int = 16
    #: VOD's patience: seconds for an answer, tries in all, seconds between them (vod-protocol 1.2).
    callback_timeout: float = 5.0
    callback_tries: int = 3
    callback_pause: float = 1.0

    #: The queue that exists, and that events are written to; without a name there is none (vod-protocol 3).
    smq_queue: str = ""
    #: Seconds for which a message that was received stays invisible.
    smq_visibility: float = 30.0
