"""Did VOD send this?"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from worker.core.errors import NotificationRejectedError

#: Ten digits in our time; the bound only keeps garbage away from the arithmetic.
_SECONDS = re.compile(r"-?[0-9]{1,20}")

_DIGEST = re.compile(r"[0-9a-f]{32}")


def sign(url: str, timestamp: str, key: str) -> str:
    """The 32 lower-case hex digits that VOD sends as X-VOD-SIGNATURE (vod-protocol 1.3).

    `url` is the callback URL exactly as configured at VOD, `timestamp` the text of X-VOD-TIMESTAMP.
    """
    said = f"{url}|{timestamp}|{key}".encode("utf-8", "surrogatepass")
    # MD5 is VOD's choice; the flag lets it run on machines in FIPS mode.
    return hashlib.md5(said, usedforsecurity=False).hexdigest()


def verify(
    *,
    url: str,
    keys: Sequence[str],
    timestamp: str | None,
    signature: str | None,
    now: datetime,
    tolerance: timedelta,
) -> None:
    """Return if one of `keys` signed this delivery and `timestamp` is at most `tolerance` away from `now` (vod-protocol 1.3).

    Several keys are valid at once while a key is rotated. The body is not covered: who saw one delivery can send any body with the
    same headers until the timestamp is stale.

    Raises RejectedNotification with the reason "unsigned", "signature" or "stale".
    """
    sent_at = (timestamp or "").strip()
    sent = (signature or "").strip().lower()
    if not sent_at or not sent:
        raise NotificationRejectedError(
            "the notification is not signed: switch authentication on in VOD's callback settings, "
            "or set VODSYNC_CALLBACK_UNSIGNED=accept",
            reason="unsigned",
        )
    if not _SECONDS.fullmatch(sent_at) or not _DIGEST.fullmatch(sent) or not _one_signs(url, keys, sent_at, sent):
        raise NotificationRejectedError(
            "the signature does not match: compare VODSYNC_CALLBACK_URL and VODSYNC_CALLBACK_KEYS with VOD's callback settings",
            reason="signature",
        )
    if abs(now.timestamp() - int(sent_at)) > tolerance.total_seconds():
        raise NotificationRejectedError(
            f"the signature is more than {tolerance.total_seconds():g} s away from our time: "
            "check this machine's clock, or raise VODSYNC_CALLBACK_TOLERANCE",
            reason="stale",
        )


def _one_signs(url: str, keys: Sequence[str], timestamp: str, signature: str) -> bool:
    matches = False
    for key in keys:
        # An empty key would let everybody sign. Every key is tried, so that the time taken tells nothing.
        matches |= bool(key) and hmac.compare_digest(sign(url, timestamp, key), signature)
    return matches
