"""Every citation of a numbered document has a target, and no text refers to a file outside the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The files and folders that are read. A source distribution has no git, so they are listed.
PLACES = ("worker", "migrations", "tests", "benchmarks", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")

DOCUMENTS = {"vod-protocol": ROOT / "docs/vod-protocol.md", "contract": ROOT / "docs/contract.md"}

_NUMBER = r"[0-9]+(?:\.[0-9]+)*"
_CITATION = re.compile(
    rf"\b({'|'.join(DOCUMENTS)})(?:\.md)?,?(?: sections?)? ({_NUMBER}(?:(?:,? and |,? or |, | to )(?:rules? )?{_NUMBER})*)"
)
_CITED = re.compile(rf"(to |rules? )?({_NUMBER})")

#: A comment that continues on the next line.
_LINE_BREAK = re.compile(r"\s*\n[ \t]*(?:#:?[ \t]*)?")

#: A rule without its document, and a section after the initial of its document.
_INCOMPLETE = re.compile(r"(?<!vod-protocol 7, )\b[Rr]ules? [0-9]+|\bP[0-9]+\.[0-9]+\b")

_TARGET = re.compile(r"^(?:#{2,4} ([0-9]+(?:\.[0-9]+)*)\.? |\| ([0-9]+\.[0-9]+) \|)", re.MULTILINE)

_RELATIVE_PATH = re.compile(r"(?<![\w./])(?:\.\./)+\w[\w./-]*")
_MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home)/\w[\w./-]*")


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every .py and .md file except this one, whose examples are wrong on purpose."""
    for place in (ROOT / name for name in PLACES):
        paths = sorted([*place.rglob("*.py"), *place.rglob("*.md")]) if place.is_dir() else [place]
        yield from ((path, path.read_text(encoding="utf-8")) for path in paths if path != Path(__file__))


def joined(text: str) -> str:
    """Return the text as one line, without comment marks."""
    return _LINE_BREAK.sub(" ", text)


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Yield document and section of each citation. A range yields all of its sections; "7, rule 16" is 7.16."""
    for document, sections in _CITATION.findall(joined(text)):
        chapter = last = ""
        for word, number in _CITED.findall(sections):
            if word.startswith("rule"):
                chapter = last
            section = f"{chapter}.{number}" if chapter and "." not in number else number
            if word == "to ":
                yield from ((document, inner) for inner in between(last, section))
            yield document, section
            last = section


def between(first: str, last: str) -> list[str]:
    """Return the sections between the ends of a range."""
    (chapter, _, low), (_, _, high) = first.partition("."), last.partition(".")
    return [f"{chapter}.{number}" for number in range(int(low) + 1, int(high))] if low and high else []


def targets(text: str) -> set[str]:
    """Return the numbers of headings and of table rows."""
    return {heading or row for heading, row in _TARGET.findall(text)}


def outside(path: Path, text: str) -> list[str]:
    """Return the paths in `text` that are not files of the repository."""
    relative = [
        reference
        for reference in _RELATIVE_PATH.findall(text)
        if not (target := (path.parent / reference).resolve()).exists() or not target.is_relative_to(ROOT)
    ]
    return relative + _MACHINE_PATH.findall(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(vod-protocol 7.16)", ["7.16"]),
        ("docs/vod-protocol.md 2.1.", ["2.1"]),
        ("vod-protocol section 9 in snake case", ["9"]),
        ("written from vod-protocol 4.2 and 4.3", ["4.2", "4.3"]),
        ("(vod-protocol 7 and 9.1)", ["7", "9.1"]),
        ("vod-protocol 2.1, 9.2", ["2.1", "9.2"]),
        ("vod-protocol 9.2 to 9.5", ["9.2", "9.3", "9.4", "9.5"]),
        ("vod-protocol 7, rule 16", ["7", "7.16"]),
        ("vod-protocol 7, rules 3 and 4, 9.2", ["7", "7.3", "7.4", "9.2"]),
        ("one (vod-protocol 2), two (vod-protocol 7)", ["2", "7"]),
        ("#: (vod-protocol\n    #: 6.1), and more", ["6.1"]),
        ("# vod-protocol 4.2 and\n# 4.3 describe it", ["4.2", "4.3"]),
        ("vod-protocol alone", []),
    ],
)
def test_citations_are_found_in_every_form(text: str, expected: list[str]) -> None:
    assert [section for _, section in citations(text)] == expected


def test_a_citation_of_an_unknown_section_is_detected() -> None:
    known = targets("## 7. Data\n\n### 7.1 Numbers\n\n| rule | what |\n|---|---|\n| 7.2 | texts |\n")

    cited = {section for _, section in citations("(vod-protocol 7), (vod-protocol 7.1), (vod-protocol 7.2, 7.3), contract 8")}

    assert known == {"7", "7.1", "7.2"}
    assert cited - known == {"7.3", "8"}


def test_every_citation_has_a_target() -> None:
    known = {document: targets(path.read_text(encoding="utf-8")) for document, path in DOCUMENTS.items()}
    cited = [(path, *citation) for path, text in texts() for citation in citations(text)]

    unknown = [f"{path.relative_to(ROOT)}: {doc} {section}" for path, doc, section in cited if section not in known[doc]]

    assert len(cited) > 50
    assert unknown == []


@pytest.mark.parametrize("text", ["as in rule 16", "(rules 3, 4)", "see vod-protocol, rule 3", "documented (P10.6)"])
def test_a_citation_without_its_document_is_detected(text: str) -> None:
    assert _INCOMPLETE.search(joined(text))


def test_every_citation_names_its_document() -> None:
    incomplete = [f"{path.relative_to(ROOT)}: {rule}" for path, text in texts() for rule in _INCOMPLETE.findall(joined(text))]

    assert incomplete == []


@pytest.mark.parametrize("text", ["see ../shared/notes.md", "[plan](../../plan.md)", "in /home/me/shared", "at /root/notes.md"])
def test_a_file_outside_the_repository_is_detected(text: str) -> None:
    assert outside(ROOT / "docs/page.md", text)


@pytest.mark.parametrize("text", ["[README](../README.md)", "a/../b", "../..", "worker/cli", "/run/secrets/x", "http://h/home/x"])
def test_other_paths_are_ignored(text: str) -> None:
    assert outside(ROOT / "docs/page.md", text) == []


def test_no_text_refers_to_a_file_outside_the_repository() -> None:
    references = [f"{path.relative_to(ROOT)}: {reference}" for path, text in texts() for reference in outside(path, text)]

    assert references == []
