"""The configuration of one emulator."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """What is fixed while an emulator runs. Faults and uploads are set later, through the control API."""

    host: str = "127.0.0.1"
    #: 0 selects a free port.
    port: int = 9000

    access_key_id: str = "demoKeyId"
    access_key_secret: str = field(default="demoSecret", repr=False)
    #: If set, only calls with this STS token are accepted.
    security_token: str = field(default="", repr=False)
    region: str = "cn-shanghai"

    #: Assets in the library before the first upload.
    media: int = 0
    seed: int = 1
    #: False answers as the vendor's documents describe, without the deviations of vod-protocol 7.
    quirks: bool = True

    #: Calls per second of the account, 0 = unlimited (vod-protocol 5; VOD does not publish the first one).
    batch_qps: int = 20
    video_info_qps: int = 100
    search_qps: int = 50
    #: Seconds until a ScrollToken expires; VOD does not publish it (vod-protocol 6.1).
    scroll_seconds: float = 600.0
    #: Seconds before each answer of the API.
    latency: float = 0.0

    #: Seconds from the announcement of an upload to its last transcoded stream; 0 = all at once.
    life_seconds: float = 1.5
    #: Without a URL no notifications are sent. The signature covers the URL exactly as it is written here.
    callback_url: str = ""
    #: Signs the notifications; without a key they are unsigned.
    callback_key: str = field(default="", repr=False)
    #: Notifications that are sent at the same time.
    callback_connections: int = 16
    #: How VOD sends a notification: seconds until a timeout, attempts in all, seconds between them (vod-protocol 1.2).
    callback_timeout: float = 5.0
    callback_tries: int = 3
    callback_pause: float = 1.0

    #: The name of the queue that events are written to; without a name there is no queue (vod-protocol 3).
    smq_queue: str = ""
    #: Seconds for which a received message stays invisible.
    smq_visibility: float = 30.0
