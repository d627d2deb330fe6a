"""Ids that can be requested, and reference ids among media ids."""

from __future__ import annotations

import pytest

from worker.core.ids import is_valid_id, reference_key, split_keys


def test_the_keys_of_requests_are_split_into_media_ids_and_reference_ids() -> None:
    assert split_keys(["a", reference_key("b"), "ref-c", reference_key("ref:d")]) == (["a", "ref-c"], ["b", "ref:d"])
    assert split_keys([]) == ([], [])


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a\n", "\u00e9", "a/b", "ref:a", "\u0663"])
def test_a_text_with_other_characters_is_not_an_id(text: str) -> None:
    assert not is_valid_id(text)
