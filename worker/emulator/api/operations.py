"""BatchGetMediaInfos, GetVideoInfo and GetMessageCallback, as asked of one account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker.core.media import BATCH_LIMIT
from worker.emulator.api.api_errors import ApiError, missing_parameter
from worker.emulator.api.faults import FaultInjector
from worker.emulator.library import quirks
from worker.emulator.library.library import Library
from worker.emulator.library.links import Signer, unsigned
from worker.emulator.server.cooperative_yield import CooperativeYield

#: Operation -> the parameters that name media.
ID_PARAMETERS = {"BatchGetMediaInfos": ("MediaIds", "ReferenceIds"), "GetVideoInfo": ("VideoId", "ReferenceId")}


class Operations:
    """The answers without their RequestId. `now` is unix seconds throughout."""

    def __init__(self, library: Library, mischief: FaultInjector, callback: Mapping[str, str], *, plain: bool) -> None:
        self._callback = callback
        self._library = library
        self._mischief = mischief
        self._plain = plain

    async def call(self, operation: str, parameters: Mapping[str, str], now: float) -> dict[str, Any]:
        """Raises Refusal."""
        if operation == "BatchGetMediaInfos":
            return await self.batch_get_media_infos(parameters, now)
        if operation == "GetMessageCallback":
            return {"MessageCallback": dict(self._callback)}
        return self.get_video_info(parameters, now)

    async def batch_get_media_infos(self, parameters: Mapping[str, str], now: float) -> dict[str, Any]:
        """VOD documents neither repeated ids, nor more than 20, nor reference ids alone (vod-protocol 10.6). Here an id that
        repeats is answered once, more than 20 are refused, and reference ids may come alone."""
        media_ids = list(dict.fromkeys(split(parameters.get("MediaIds", ""))))
        reference_ids = list(dict.fromkeys(split(parameters.get("ReferenceIds", ""))))
        if not media_ids and not reference_ids:
            raise missing_parameter("MediaIds")
        for ids in (media_ids, reference_ids):
            if len(ids) > BATCH_LIMIT:
                raise ApiError("VideoListExceededMax", 400, f"The video list exceeds the maximum of {BATCH_LIMIT}.")
        indices: dict[int, None] = {}
        missing, missing_references, forbidden = [], [], []
        for media_id in media_ids:
            self._refuse_poison(media_id)
            if media_id in self._mischief.faults.forbidden:
                forbidden.append(media_id)
            elif (index := self._visible_index(media_id, now)) is None:
                missing.append(media_id)
            else:
                indices[index] = None
        for reference_id in reference_ids:
            found = self._library.index_of_reference(reference_id)
            media_id = "" if found is None else self._library.identities.media_id(found)
            self._refuse_poison(media_id)
            if media_id in self._mischief.faults.forbidden:
                forbidden.append(media_id)
            elif (index := self._visible_index(media_id, now)) is None:
                missing_references.append(reference_id)
            else:
                indices[index] = None
        if self._mischief.faults.refuse_all_unknown and not indices and not forbidden:
            raise _not_found()
        return await self._answer(list(indices), missing, missing_references, forbidden, now)

    def get_video_info(self, parameters: Mapping[str, str], now: float) -> dict[str, Any]:
        video_id = parameters.get("VideoId", "")
        reference_id = parameters.get("ReferenceId", "")
        if not video_id and not reference_id:
            raise missing_parameter("VideoId")
        if not video_id:
            found = self._library.index_of_reference(reference_id)
            video_id = "" if found is None else self._library.identities.media_id(found)
        self._refuse_poison(video_id)
        if video_id in self._mischief.faults.forbidden:
            raise ApiError("Forbidden", 403, "User not authorized to operate on the specified resource.")
        index = self._visible_index(video_id, now)
        if index is None:
            raise _not_found()
        return {"Video": self._library.video(index, self._seen_at(now), self._signer(now))}

    async def _answer(
        self, indices: list[int], missing: list[str], missing_references: list[str], forbidden: list[str], now: float
    ) -> dict[str, Any]:
        sign = self._signer(now)
        elements, turns = [], CooperativeYield()
        for index in indices:
            await turns()
            elements.append(self._library.element(index, self._seen_at(now), sign))
        if self._plain:
            return {
                "MediaInfos": elements,
                "NonExistMediaIds": missing,
                "NonExistReferenceIds": missing_references,
                "ForbiddenMediaIds": forbidden,
            }
        elements.sort(key=quirks.storage_order)
        answer: dict[str, Any] = {"MediaInfos": elements, "NonExistMediaIds": quirks.id_list(missing)}
        # Lists with nothing in them come or stay away as they like.
        if forbidden or not missing:
            answer["ForbiddenMediaIds"] = quirks.id_list(forbidden)
        if missing_references or missing:
            answer["NonExistReferenceIds"] = missing_references
        return answer

    def _signer(self, now: float) -> Callable[[str], str]:
        return unsigned if self._plain else Signer(now)

    def _seen_at(self, now: float) -> float:
        return now - self._mischief.faults.lag_seconds

    def _visible_index(self, media_id: str, now: float) -> int | None:
        index = self._library.index(media_id)
        if index is None or self._library.deleted(index) or self._mischief.hides(media_id, now):
            return None
        upload = self._library.upload(index)
        return None if upload is not None and upload.started_at > self._seen_at(now) else index

    def _refuse_poison(self, media_id: str) -> None:
        if media_id in self._mischief.faults.poisonous:
            # Which of the ids it was is not said.
            raise ApiError("InvalidParameter", 400, "The specified parameter is not valid.")


def split(ids: str) -> list[str]:
    return [text.strip() for text in ids.split(",") if text.strip()]


def _not_found() -> ApiError:
    return ApiError("InvalidVideo.NotFound", 404, "The video does not exist.")
