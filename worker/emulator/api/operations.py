"""Answer BatchGetMediaInfos, GetVideoInfo and GetMessageCallback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from worker.core.media import BATCH_LIMIT
from worker.emulator.api.api_errors import ApiError, missing_parameter
from worker.emulator.api.call import split_ids
from worker.emulator.api.cooperative_yield import CooperativeYield
from worker.emulator.api.faults import FaultInjector
from worker.emulator.library import quirks
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.library import Library
from worker.emulator.library.signed_urls import UrlSigner, keep_unsigned


@dataclass(slots=True)
class BatchLookup:
    """What became of the ids of one BatchGetMediaInfos call."""

    #: Indices of the assets to return, each once, in the order of the request.
    indices: dict[int, None] = field(default_factory=dict)
    missing_media_ids: list[str] = field(default_factory=list)
    missing_reference_ids: list[str] = field(default_factory=list)
    forbidden_media_ids: list[str] = field(default_factory=list)


class Operations:
    """The handlers of the operations. They return answers without the RequestId; `now` is unix seconds."""

    def __init__(self, library: Library, injector: FaultInjector, callback: Mapping[str, str], *, plain: bool) -> None:
        """`callback` are the settings that GetMessageCallback returns; `plain` turns the quirks of vod-protocol 7 off."""
        self._callback = callback
        self._library = library
        self._injector = injector
        self._plain = plain

    async def batch_get_media_infos(self, parameters: Mapping[str, str], now: float) -> JsonObject:
        """Return the answer for up to 20 media ids and up to 20 reference ids. Raises ApiError.

        VOD does not document repeated ids, more than 20 ids, or reference ids alone (vod-protocol 10.6). The emulator answers a
        repeated id once, refuses more than 20 ids, and accepts reference ids alone.
        """
        media_ids = list(dict.fromkeys(split_ids(parameters.get("MediaIds", ""))))
        reference_ids = list(dict.fromkeys(split_ids(parameters.get("ReferenceIds", ""))))
        if not media_ids and not reference_ids:
            raise missing_parameter("MediaIds")
        for ids in (media_ids, reference_ids):
            if len(ids) > BATCH_LIMIT:
                raise ApiError("VideoListExceededMax", 400, f"The video list exceeds the maximum of {BATCH_LIMIT}.")
        lookup = BatchLookup()
        for media_id in media_ids:
            self._look_up(media_id, media_id, lookup.missing_media_ids, lookup, now)
        for reference_id in reference_ids:
            media_id = self._media_id_of_reference(reference_id)
            self._look_up(media_id, reference_id, lookup.missing_reference_ids, lookup, now)
        if self._injector.faults.refuse_all_unknown and not lookup.indices and not lookup.forbidden_media_ids:
            raise _not_found()
        return await self._batch_answer(lookup, now)

    async def get_video_info(self, parameters: Mapping[str, str], now: float) -> JsonObject:
        """Return the answer for one media id or reference id. Raises ApiError."""
        media_id = parameters.get("VideoId", "")
        reference_id = parameters.get("ReferenceId", "")
        if not media_id and not reference_id:
            raise missing_parameter("VideoId")
        if not media_id:
            media_id = self._media_id_of_reference(reference_id)
        self._refuse_poisonous(media_id)
        if media_id in self._injector.faults.forbidden:
            raise ApiError("Forbidden", 403, "User not authorized to operate on the specified resource.")
        index = self._visible_index(media_id, now)
        if index is None:
            raise _not_found()
        return {"Video": self._library.video(index, self._seen_at(now), self._signer(now))}

    async def get_message_callback(self, parameters: Mapping[str, str], now: float) -> JsonObject:
        """Return the callback settings; there are no parameters."""
        return {"MessageCallback": dict(self._callback)}

    def _look_up(self, media_id: str, requested_id: str, missing: list[str], lookup: BatchLookup, now: float) -> None:
        """Add one asset to `lookup`, or `requested_id` to `missing` if there is none. Raises ApiError for a poisonous id."""
        self._refuse_poisonous(media_id)
        if media_id in self._injector.faults.forbidden:
            lookup.forbidden_media_ids.append(media_id)
        elif (index := self._visible_index(media_id, now)) is None:
            missing.append(requested_id)
        else:
            lookup.indices[index] = None

    async def _batch_answer(self, lookup: BatchLookup, now: float) -> JsonObject:
        sign = self._signer(now)
        elements: list[JsonObject] = []
        yield_to_others = CooperativeYield()
        for index in lookup.indices:
            await yield_to_others()
            elements.append(self._library.element(index, self._seen_at(now), sign))
        if self._plain:
            return {
                "MediaInfos": elements,
                "NonExistMediaIds": lookup.missing_media_ids,
                "NonExistReferenceIds": lookup.missing_reference_ids,
                "ForbiddenMediaIds": lookup.forbidden_media_ids,
            }
        elements.sort(key=quirks.storage_order)
        answer: JsonObject = {"MediaInfos": elements, "NonExistMediaIds": quirks.id_list(lookup.missing_media_ids)}
        # Empty lists are sometimes sent and sometimes left out.
        if lookup.forbidden_media_ids or not lookup.missing_media_ids:
            answer["ForbiddenMediaIds"] = quirks.id_list(lookup.forbidden_media_ids)
        if lookup.missing_reference_ids or lookup.missing_media_ids:
            answer["NonExistReferenceIds"] = lookup.missing_reference_ids
        return answer

    def _signer(self, now: float) -> Callable[[str], str]:
        return keep_unsigned if self._plain else UrlSigner(now)

    def _seen_at(self, now: float) -> float:
        """Return the time of the library that the API shows at `now`."""
        return now - self._injector.faults.lag_seconds

    def _media_id_of_reference(self, reference_id: str) -> str:
        """Return the media id, or "" for an unknown reference id."""
        index = self._library.index_of_reference_id(reference_id)
        return "" if index is None else self._library.ids.media_id(index)

    def _visible_index(self, media_id: str, now: float) -> int | None:
        """Return the index of an asset that the API shows at `now`, or None."""
        index = self._library.index(media_id)
        if index is None or self._library.is_deleted(index) or self._injector.hides(media_id, now):
            return None
        upload = self._library.upload(index)
        return None if upload is not None and upload.started_at > self._seen_at(now) else index

    def _refuse_poisonous(self, media_id: str) -> None:
        if media_id in self._injector.faults.poisonous:
            # The error does not name the id, so a client has to find it by itself.
            raise ApiError("InvalidParameter", 400, "The specified parameter is not valid.")


def _not_found() -> ApiError:
    return ApiError("InvalidVideo.NotFound", 404, "The video does not exist.")
