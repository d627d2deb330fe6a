"""Read ids from arguments, files and stdin."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from worker.cli.id_input import read_ids


@pytest.mark.parametrize("text", ["a b,c", "a\nb\r\nc\n", "\ufeffa,\n,b\t c,,", "  a\n\n b\fc"])
def test_ids_are_separated_by_whitespace_and_commas(text: str) -> None:
    Path("ids").write_text(text, newline="")

    assert list(read_ids([], Path("ids"))) == ["a", "b", "c"]


def test_ids_that_cross_a_block_of_the_file_stay_whole() -> None:
    ids = [f"{number:032x}" for number in range(10_000)]
    Path("ids").write_text(",".join(ids))

    assert list(read_ids([], Path("ids"))) == ids


def test_a_binary_file_is_read_as_one_short_word_that_is_not_a_valid_id() -> None:
    Path("video").write_bytes(b"\xff" * 1_000_000)

    (word,) = read_ids([], Path("video"))

    assert len(word) < 100_000
    assert "\ufffd" in word


def test_a_dash_means_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb")))

    assert list(read_ids(["-"], None)) == ["a", "b"]


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_file_that_cannot_be_read_is_a_usage_error(name: str) -> None:
    with pytest.raises(typer.Exit) as exit_error:
        list(read_ids([], Path(name)))

    assert exit_error.value.exit_code == 2
