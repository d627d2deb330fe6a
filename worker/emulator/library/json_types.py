"""The type of JSON objects."""

from __future__ import annotations

from typing import Any, TypeAlias

#: VOD's answers and events. The values are Any because the type of a field differs between answers (vod-protocol 7.1).
JsonObject: TypeAlias = dict[str, Any]
