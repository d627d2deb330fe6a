"""Compute and verify the signature of an HTTP callback."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from worker.core.errors import NotificationRejectedError

# A timestamp has ten digits today. The bound keeps garbage away from the arithmetic.
_TIMESTAMP = re.compile(r"-?[0-9]{1,20}")

_DIGEST = re.compile(r"[0-9a-f]{32}")


def sign(url: str, timestamp: str, key: str) -> str:
    """Return the 32 lower-case hex digits that VOD sends as X-VOD-SIGNATURE (vod-protocol 1.3).

    `url` is the callback URL exactly as configured at VOD. `timestamp` is the text of X-VOD-TIMESTAMP.
    """
    signed = f"{url}|{timestamp}|{key}".encode("utf-8", "surrogatepass")
    # VOD prescribes MD5. The flag permits it on machines in FIPS mode.
    return hashlib.md5(signed, usedforsecurity=False).hexdigest()


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

    Several keys are valid at once while a key is rotated. The signature does not cover the body: with the headers of one captured
    delivery, an attacker can send any body until the timestamp is stale.

    Raises NotificationRejectedError with the reason "unsigned", "signature" or "stale".
    """
    timestamp = (timestamp or "").strip()
    signature = (signature or "").strip().lower()
    if not timestamp or not signature:
        raise NotificationRejectedError(
            "the notification is not signed: switch authentication on in VOD's callback settings, "
            "or set VODSYNC_CALLBACK_UNSIGNED=accept",
            reason="unsigned",
        )
    is_well_formed = _TIMESTAMP.fullmatch(timestamp) and _DIGEST.fullmatch(signature)
    if not is_well_formed or not _matches_a_key(url, keys, timestamp, signature):
        raise NotificationRejectedError(
            "the signature does not match: compare VODSYNC_CALLBACK_URL and VODSYNC_CALLBACK_KEYS with VOD's callback settings",
            reason="signature",
        )
    if abs(now.timestamp() - int(timestamp)) > tolerance.total_seconds():
        raise NotificationRejectedError(
            f"the signature is more than {tolerance.total_seconds():g} s away from our time: "
            "check this machine's clock, or raise VODSYNC_CALLBACK_TOLERANCE",
            reason="stale",
        )


def _matches_a_key(url: str, keys: Sequence[str], timestamp: str, signature: str) -> bool:
    matches = False
    for key in keys:
        # With an empty key anyone could sign. All keys are tried, so that the duration does not depend on which one matches.
        matches |= bool(key) and hmac.compare_digest(sign(url, timestamp, key), signature)
    return matches
