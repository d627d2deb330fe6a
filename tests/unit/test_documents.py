"""The documents name files, classes, tests, log phrases and make targets that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAILURE_MODES = ROOT / "docs/failure-modes.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_PATH = re.compile(r"`((?:worker|tests|migrations|docs|benchmarks)/[\w./-]*\w)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:\.(\w+))?`")
_TARGET = re.compile(r"`make ([a-z]+)")
_CITED_TEST = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py)`")

#: What a table cell has after "log", and the phrases in it: two quoted words or more.
_LOG_CLAUSE = re.compile(r"\blog\b[^|\n]*")
_PHRASE = re.compile(r"`([\w'][\w',;-]*(?: [\w'][\w',;-]*)+)`")

#: Names in capitals that are not classes of vodsync: VOD's operations, and classes of libraries.
_FOREIGN = {"SimpleQueue", "BatchGetMediaInfos", "GetVideoInfo", "SearchMedia", "SetMessageCallback", "GetMessageCallback"}


def cited_tests(text: str) -> list[str]:
    return _CITED_TEST.findall(text)


def log_phrases(text: str) -> list[str]:
    return [phrase for clause in _LOG_CLAUSE.findall(text) for phrase in _PHRASE.findall(clause)]


def missing_paths(document: Path, text: str) -> list[str]:
    links = [link for link in _LINK.findall(text) if not (document.parent / link).exists()]
    return [path for path in _PATH.findall(text) if not (ROOT / path).exists()] + links


def missing_classes(text: str, classes: dict[str, set[str]]) -> list[str]:
    """Return the classes and attributes that a text names and the code does not have."""
    return [
        f"{name}.{attribute}" if attribute else name
        for name, attribute in _CLASS.findall(text)
        if name not in _FOREIGN and (name not in classes or (attribute and attribute not in classes[name]))
    ]


def code() -> Iterator[ast.AST]:
    for path in (ROOT / "worker").rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def members(node: ast.ClassDef) -> set[str]:
    functions = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)}
    return functions | {
        inner.target.id for inner in node.body if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    assert missing_paths(document, document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md"])
def test_every_class_that_a_document_names_exists(name: str) -> None:
    classes: dict[str, set[str]] = {}
    for node in code():
        if isinstance(node, ast.ClassDef):
            classes.setdefault(node.name, set()).update(members(node))

    assert missing_classes((ROOT / name).read_text(encoding="utf-8"), classes) == []


def test_contributing_lists_every_target_that_proves_something() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for document in DOCUMENTS for target in _TARGET.findall(document.read_text(encoding="utf-8"))}
    listed = set(re.findall(r"^\| `make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))

    assert named <= targets
    assert targets - listed <= {"help", "lock", "clean", "docs"}


def test_every_test_cited_for_a_failure_exists() -> None:
    existing = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    names = {Path(path).name for path in existing}

    cited = set(cited_tests(FAILURE_MODES.read_text(encoding="utf-8")))

    assert len(cited) > 20
    assert cited - existing - names == set()


def test_a_name_of_several_test_files_is_cited_with_its_folder() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    ambiguous = {name for name in names if names.count(name) > 1}

    assert [name for name in cited_tests(FAILURE_MODES.read_text(encoding="utf-8")) if name in ambiguous] == []


def test_every_log_phrase_of_a_failure_is_written_by_the_code() -> None:
    texts = "\n".join(node.value for node in code() if isinstance(node, ast.Constant) and isinstance(node.value, str))

    phrases = log_phrases(FAILURE_MODES.read_text(encoding="utf-8"))

    assert len(phrases) > 30
    assert [phrase for phrase in phrases if phrase not in texts] == []


def test_the_finders_find() -> None:
    row = "| a | log: `work postponed`; `/statusz` | log as an error: `it is kept`, `x` | `tests/system/test_a.py`, `test_b.py` |"
    text = "[a](no-such-file.md), [b](glossary.md#x), `worker/no_such_file.py`, `GroupCommit.no_method`, `NoClass`"

    assert cited_tests(row) == ["tests/system/test_a.py", "test_b.py"]
    assert log_phrases(row) == ["work postponed", "it is kept"]
    assert missing_paths(ROOT / "docs/x.md", text) == ["worker/no_such_file.py", "no-such-file.md"]
    assert missing_classes(text, {"GroupCommit": {"submit"}}) == ["GroupCommit.no_method", "NoClass"]
