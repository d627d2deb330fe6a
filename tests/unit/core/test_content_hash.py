"""The hash by which changed content is recognised."""

from __future__ import annotations

import copy
from typing import Any

from tests.unit.core.answers import FULL_ANSWER, read
from worker.core.media import Media
from worker.core.normalise import content_hash, read_media


def full_media(**changes: Any) -> Media:
    """Return the asset with every documented field, with some parts of its element replaced."""
    media = read_media(FULL_ANSWER["MediaInfos"][0] | changes)
    assert media is not None
    return media


def with_reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_reversed_keys(value[key]) for key in reversed(value)}
    return [with_reversed_keys(inner) for inner in value] if isinstance(value, list) else value


def lists(element: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [element["PlayInfoList"], element["MezzanineInfo"]["AudioStreamList"], element["MezzanineInfo"]["VideoStreamList"]]


def element_with_several_streams() -> dict[str, Any]:
    """Return an element with three items, one of them with an unreadable field, in each of its lists."""
    element: dict[str, Any] = copy.deepcopy(FULL_ANSWER["MediaInfos"][0])
    for items in lists(element):
        items[0]["Fps"] = "none"
        items += [items[0] | {"JobId": "x", "Index": "7"}, items[0] | {"JobId": "y", "Index": "8"}]
    return element


def test_the_content_hash_does_not_depend_on_any_order() -> None:
    element = element_with_several_streams()
    reordered = with_reversed_keys(element)
    for items in lists(reordered):
        items.insert(0, items.pop())

    hashes = [content_hash(read(element)), content_hash(read(reordered))]

    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 64


def test_the_content_hash_does_not_depend_on_signatures() -> None:
    def signed(key: str) -> Media:
        return read(
            {"MediaInfo": {"CoverURL": f"http://a/c.jpg?auth_key={key}", "Snapshots": [f'["http://a/1.jpg?x=1&Signature={key}"]']}}
        )

    assert content_hash(signed("1764003600-0-0-aa")) == content_hash(signed("1764009999-0-0-bb"))


def test_the_content_hash_changes_with_every_field_documented_or_not() -> None:
    hashes = {content_hash(full_media())}
    count = 1
    for part in ("MediaInfo", "MezzanineInfo"):
        for name in FULL_ANSWER["MediaInfos"][0][part]:
            hashes.add(content_hash(full_media(**{part: FULL_ANSWER["MediaInfos"][0][part] | {name: "changed"}})))
            count += 1
    for name in FULL_ANSWER["MediaInfos"][0]["PlayInfoList"][0]:
        hashes.add(content_hash(full_media(PlayInfoList=[FULL_ANSWER["MediaInfos"][0]["PlayInfoList"][0] | {name: "changed"}])))
        count += 1
    hashes.add(content_hash(full_media(New=1)))

    assert len(hashes) == count + 1


def test_the_content_hash_is_the_same_in_every_process() -> None:
    assert content_hash(read({"MediaInfo": {"Title": "x", "CateId": 1.5}})) == (
        "e5f71520bfc67e76882ff4a3625c2c84330fd646bcfde7181566b09c9c870be4"
    )


def test_the_hash_of_stored_content_is_that_of_earlier_releases() -> None:
    streams = {"AudioStreamList": [{"Index": "1", "StartTime": "0.5"}], "VideoStreamList": [{"Index": "0"}]}

    media = read_media({"MediaId": "m", "MediaInfo": {"Title": ',"start_at":null'}, "MezzanineInfo": streams})

    # Release 0.1 stored this one. With another hash, an upgrade would write and announce the whole library again.
    assert media is not None
    assert content_hash(media) == "60aa442edbceeccab1ec9e9b584e3142fea40d000fe0dee0171b61e77d15ab6c"
