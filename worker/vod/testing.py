"""A fake of VOD for tests: the interface of the client, with answers set by the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from worker.core.errors import VodError, VodRefusedError
from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS

_TIME_RANGE = re.compile(r"(\w+) = \['([^']+)','([^']+)'\]")
_STATUS_FILTER = re.compile(r"Status in \(([^)]*)\)")


class FakeVod:
    """Has the assets that were passed to `put`; all other ids do not exist. `calls` lists the arguments of each call."""

    def __init__(self) -> None:
        self.is_warm = True
        self.sent_at = 0.0
        self.calls: list[list[str]] = []
        self.media: dict[str, dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        #: Ids that are in no part of an answer.
        self.omitted: set[str] = set()
        #: Called during each call, so that a test can cause a race.
        self.during_call: Callable[[], None] = lambda: None
        self._errors: list[VodError] = []

    def put(self, *elements: dict[str, Any]) -> None:
        self.media |= {element["MediaId"]: element for element in elements}

    def fail(self, *errors: VodError) -> None:
        """Raise one of `errors` in each of the next calls, in their order."""
        self._errors += errors

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        self._begin([*media_ids, *reference_ids])
        by_reference = {
            element.get("MediaInfo", {}).get("ReferenceId"): element for element in self.media.values() if element.get("MediaInfo")
        }
        hidden = self.forbidden | self.omitted
        elements = [self.media[i] for i in media_ids if i in self.media and i not in hidden]
        elements += [by_reference[i] for i in reference_ids if i in by_reference]
        return {
            "RequestId": f"R-{len(self.calls)}",
            "MediaInfos": elements,
            "NonExistMediaIds": [i for i in media_ids if i not in self.media and i not in hidden],
            "NonExistReferenceIds": [i for i in reference_ids if i not in by_reference],
            "ForbiddenMediaIds": [i for i in media_ids if i in self.forbidden],
        }

    def get_video_info(self, media_id: str) -> dict[str, Any]:
        self._begin([media_id])
        if media_id not in self.media:
            raise VodRefusedError("unknown", code="InvalidVideo.NotFound", status=404)
        return {
            "RequestId": f"R-{len(self.calls)}",
            "Video": {"VideoId": media_id, "AuditStatus": "Normal", "RegionId": "cn-shanghai"},
        }

    def search_media(self, search_type: str, match: str, sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        """Return a page of the assets in a closed time range, without tokens. Assets with "audio" in their id are audio.

        As in VOD, rows beyond MAX_PAGED_ROWS are refused without a token.
        """
        self.calls.append([search_type, match, str(page)])
        if self._errors:
            raise self._errors.pop(0)
        if page * PAGE_ROWS > MAX_PAGED_ROWS:
            raise VodRefusedError("page beyond the limit", code="InvalidParameter", status=400)
        infos = [
            element["MediaInfo"] for media_id, element in self.media.items() if ("audio" in media_id) == (search_type == "audio")
        ]
        if time_range := _TIME_RANGE.search(match):
            name, low, high = time_range.groups()
            infos = [info for info in infos if low <= info[name] <= high]
        if status_filter := _STATUS_FILTER.search(match):
            infos = [info for info in infos if f"'{info['Status']}'" in status_filter[1]]
        infos.sort(key=itemgetter(sort_by.partition(":")[0]))
        return {
            "RequestId": f"R-{len(self.calls)}",
            "Total": len(infos),
            "MediaList": [
                {
                    "MediaId": info["MediaId"],
                    "CreationTime": info["CreationTime"],
                    search_type.capitalize(): {"ModificationTime": info["ModificationTime"]},
                }
                for info in infos[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
            ],
        }

    def _begin(self, ids: list[str]) -> None:
        self.calls.append(ids)
        self.during_call()
        if self._errors:
            raise self._errors.pop(0)
