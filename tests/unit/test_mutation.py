"""The mutation run itself: what is changed in a module, and how a change that no test notices is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.modules import TESTS
from tests.mutation.operators import mutants
from tests.mutation.run import BrokenTestsError, ModuleResult, run_module, sample

ROOT = Path(__file__).parents[2]


def changes(source: str) -> list[tuple[str, str]]:
    return [(mutant.before, mutant.after) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", [("a < b", "a <= b")]),
        ("f(a)", [("f(a)", "pass")]),
        ("x = a is None", [("a is None", "a is not None")]),
        ("x = a and b", [("a and b", "a or b")]),
        ("x = a + b", [("a + b", "a - b")]),
        ("x = not a", [("not a", "a")]),
        ("x = True", [("True", "False")]),
        ("x = 5", [("5", "6"), ("5", "4")]),
        ("if a:\n    x = b", [("if a:", "if not a:")]),
        ("def f():\n    return a", [("return a", "return None")]),
        ("raise a", [("raise a", "pass")]),
        ("x += a", [("x += a", "x -= a"), ("x += a", "pass")]),
    ],
)
def test_an_operator_a_constant_or_a_statement_is_changed(source: str, expected: list[tuple[str, str]]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "x = 'text'",
        "x = f'{a + 1}'",
        "x: int | None = a",
        "def f(a: int | None) -> int | None:\n    x = a",
        "@retry(3)\ndef f():\n    x = a",
        "class A(B, frozen=True):\n    'Docstring.'",
        "log.info('done', count=1)",
        "if TYPE_CHECKING:\n    import a",
    ],
)
def test_texts_annotations_and_log_calls_are_left_alone(source: str) -> None:
    assert changes(source) == []


def test_each_mutant_differs_from_the_module_in_one_place() -> None:
    source = "x = a < b and c < 1"

    sources = {mutant.source for mutant in mutants(source)}

    assert sources == {
        f"x = {changed}\n"
        for changed in ("a < b or c < 1", "a <= b and c < 1", "a < b and c <= 1", "a < b and c < 2", "a < b and c < 0")
    }


def test_the_same_seed_chooses_the_same_mutants() -> None:
    source = "\n".join(f"x = {number}" for number in range(100, 150))

    first, second = (sample("module.py", source, size=10, seed=7) for _ in range(2))

    assert first == second
    assert first[0] == 100
    assert len({mutant.source for mutant in first[1]}) == 10


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one module, and a test that notices one of its four mutants."""
    root = tmp_path / "project"
    for name, text in {
        "worker/__init__.py": "",
        "worker/limit.py": "def is_low(value):\n    return value < 10\n",
        "tests/test_limit.py": "from worker.limit import is_low\n\n\ndef test_low():\n    assert is_low(1) is True\n",
        "tests/test_broken.py": "def test_broken():\n    assert False\n",
        "tests/test_other.py": "def test_other():\n    pass\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def run(project: Path, tmp_path: Path, tests: str) -> ModuleResult:
    return run_module(project, tmp_path / "scratch", "worker/limit.py", [f"tests/{tests}.py"], size=0, seed=1, jobs=2)


def test_mutants_that_no_test_notices_survive_and_the_checkout_is_only_read(project: Path, tmp_path: Path) -> None:
    files = {path: path.read_bytes() for path in project.rglob("*.py")}

    result = run(project, tmp_path, "test_limit")

    assert (result.total, result.run, result.timeouts) == (4, 4, 0)
    assert [mutant.after for mutant in result.survivors] == ["value <= 10", "11", "9"]
    assert result.score == 0.25
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == files


def test_tests_that_fail_without_a_mutation_are_an_error(project: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenTestsError, match="without any mutation"):
        run(project, tmp_path, "test_broken")


def test_tests_that_do_not_import_the_module_are_an_error(project: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenTestsError, match="does not import the module"):
        run(project, tmp_path, "test_other")


def test_every_listed_module_and_test_exists() -> None:
    paths = [*TESTS, *(argument for arguments in TESTS.values() for argument in arguments if argument.startswith("tests/"))]

    assert [path for path in paths if not (ROOT / path).exists()] == []
