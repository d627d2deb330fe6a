"""docs/failure-modes.md names tests that exist and log phrases that the code writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")

_CITED_TEST = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py)`")

#: What a table cell has after "log", and the phrases in it: two quoted words or more.
_LOG_CLAUSE = re.compile(r"\blog\b[^|\n]*")
_PHRASE = re.compile(r"`([\w'][\w',;-]*(?: [\w'][\w',;-]*)+)`")


def cited_tests(text: str) -> list[str]:
    return _CITED_TEST.findall(text)


def log_phrases(text: str) -> list[str]:
    return [phrase for clause in _LOG_CLAUSE.findall(text) for phrase in _PHRASE.findall(clause)]


def texts_of_the_code() -> Iterator[str]:
    for path in (ROOT / "worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_cited_test_exists() -> None:
    existing = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    names = {Path(path).name for path in existing}

    cited = set(cited_tests(TEXT))

    assert len(cited) > 20
    assert cited - existing - names == set()


def test_a_name_of_several_test_files_is_cited_with_its_folder() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    ambiguous = {name for name in names if names.count(name) > 1}

    assert [name for name in cited_tests(TEXT) if name in ambiguous] == []


def test_every_log_phrase_is_written_by_the_code() -> None:
    code = "\n".join(texts_of_the_code())

    phrases = log_phrases(TEXT)

    assert len(phrases) > 30
    assert [phrase for phrase in phrases if phrase not in code] == []


def test_the_finders_find() -> None:
    row = "| a | log: `work postponed`; `/statusz` | log as an error: `it is kept`, `x` | `tests/system/test_a.py`, `test_b.py` |"

    assert cited_tests(row) == ["tests/system/test_a.py", "test_b.py"]
    assert log_phrases(row) == ["work postponed", "it is kept"]
