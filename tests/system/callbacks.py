"""Notifications, keys and checks for the tests of the receiver over HTTP."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx

from tests.system.installation import Installation, analysed

OLD_KEY = "Sys7emTestCallbackKeyBefore"
STUDIO_KEY = "Sys7emTestCallbackKeyStudio"
STUDIO_URL = "https://studio.example.org/hooks/vod?env=prod"
LIMIT = 1024 * 1024  # bytes

#: vodsync.toml of the receiver under test.
SOURCES = f"""
[sources.studio]
region = "cn-beijing"
access_key_id = "LTAI5tStudio"
access_key_secret = "Sys7emTestAccessKeySecretStudio"
callback_url = "{STUDIO_URL}"
callback_keys = "{STUDIO_KEY}"

[sources.open]
access_key_id = "LTAI5tOpen"
access_key_secret = "Sys7emTestAccessKeySecretOpen"
callback_unsigned = "accept"
"""


def new_notification(**more: Any) -> dict[str, Any]:
    """Return a notification that was not sent before."""
    return analysed(f"media-{time.monotonic_ns()}", **more)


def post(receiver: Installation, content: bytes, headers: dict[str, str], path: str = "/callbacks") -> httpx.Response:
    return receiver.http.post(path, content=content, headers=headers)


def assert_refused(response: httpx.Response, status: int, reason: str | None = None) -> None:
    body = response.json()
    assert response.status_code == status, body
    assert body.keys() == {"error", "reason"}
    assert response.headers["content-type"] == "application/json"
    assert len(body["error"].split()) > 3, "the error is a sentence"
    assert re.fullmatch(r"[a-z_]+", body["reason"]), "the reason is one word"
    if reason:
        assert body["reason"] == reason


def stored(receiver: Installation, media_id: str) -> list[dict[str, Any]]:
    return receiver.database.rows("SELECT * FROM vod_notification WHERE media_id = :id", id=media_id)
