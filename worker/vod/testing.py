"""VOD without a network, for tests: same interface, answers set by hand, calls remembered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from worker.core.errors import VodError, VodRefusedError
from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS


class FakeVod:
    """Knows the media given to `put`; everything else does not exist. `fail` makes the next calls raise."""

    def __init__(self) -> None:
        self.warm = True
        self.left_at = 0.0
        self.calls: list[list[str]] = []
        self.media: dict[str, dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        #: Ids that the answer passes over in silence.
        self.silent: set[str] = set()
        #: Runs while a call is under way, which is where races happen.
        self.during_call: Callable[[], None] = lambda: None
        self._failures: list[VodError] = []

    def put(self, *elements: dict[str, Any]) -> None:
        self.media |= {element["MediaId"]: element for element in elements}

    def fail(self, *errors: VodError) -> None:
        self._failures += errors

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        self.calls.append([*media_ids, *reference_ids])
        self.during_call()
        if self._failures:
            raise self._failures.pop(0)
        by_reference = {
            element.get("MediaInfo", {}).get("ReferenceId"): element for element in self.media.values() if element.get("MediaInfo")
        }
        found = [self.media[i] for i in media_ids if i in self.media and i not in self.forbidden | self.silent]
        found += [by_reference[i] for i in reference_ids if i in by_reference]
        return {
            "RequestId": f"R-{len(self.calls)}",
            "MediaInfos": found,
            "NonExistMediaIds": [i for i in media_ids if i not in self.media and i not in self.forbidden | self.silent],
            "NonExistReferenceIds": [i for i in reference_ids if i not in by_reference],
            "ForbiddenMediaIds": [i for i in media_ids if i in self.forbidden],
        }

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        self.calls.append([media_id])
        self.during_call()
        if self._failures:
            raise self._failures.pop(0)
        if media_id not in self.media:
            raise VodRefusedError("unknown", code="InvalidVideo.NotFound", status=404)
        return {
            "RequestId": f"R-{len(self.calls)}",
            "Video": {"VideoId": media_id, "AuditStatus": "Normal", "RegionId": "cn-shanghai"},
        }

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        """Knows closed ranges and their order, the wall and no tokens; media with "audio" in their id are audio."""
        self.calls.append([search_type, match, str(page)])
        if self._failures:
            raise self._failures.pop(0)
        if page * PAGE_ROWS > MAX_PAGED_ROWS:
            raise VodRefusedError("behind the wall", code="InvalidParameter", status=400)
        found = [
            element["MediaInfo"] for media_id, element in self.media.items() if ("audio" in media_id) == (search_type == "audio")
        ]
        if ranged := _RANGE.search(match):
            name, low, high = ranged.groups()
            found = [info for info in found if low <= info[name] <= high]
        if stated := _STATUS.search(match):
            found = [info for info in found if f"'{info['Status']}'" in stated[1]]
        found.sort(key=itemgetter(sort_by.partition(":")[0]))
        rows = found[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
        return {
            "RequestId": f"R-{len(self.calls)}",
            "Total": len(found),
            "MediaList": [
                {
                    "MediaId": info["MediaId"],
                    "CreationTime": info["CreationTime"],
                    search_type.capitalize(): {"ModificationTime": info["ModificationTime"]},
                }
                for info in rows
            ],
        }


_RANGE = re.compile(r"(\w+) = \['([^']+)','([^']+)'\]")
_STATUS = re.compile(r"Status in \(([^)]*)\)")
